/**
 * Loaded before a server: moves its wall clock. After SIGUSR2 the clock is off by as many milliseconds as the file
 * CLOCK_FILE says, and a line on stdout says so. Monotonic clocks and timers go on, as in a real step.
 */
import { readFileSync } from 'node:fs'
import process from 'node:process'

const RealDate = Date
let offsetMs = 0

const now = () => RealDate.now() + offsetMs

globalThis.Date = new Proxy(RealDate, {
  construct: (_, args, newTarget) => Reflect.construct(RealDate, args.length > 0 ? args : [now()], newTarget),
  apply: () => new RealDate(now()).toString(),
  get: (target, name, receiver) => (name === 'now' ? now : Reflect.get(target, name, receiver)),
})

process.on('SIGUSR2', () => {
  offsetMs = Number(readFileSync(process.env.CLOCK_FILE as string, 'utf8'))
  console.log(JSON.stringify({ event: 'clock set', offset_ms: offsetMs, time: Date.now() }))
})
