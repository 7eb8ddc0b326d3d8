/**
 * A server of the three that share jobs: a process that submits, waits and runs as fast as its share of the slots
 * allows. It is asked for its counts by a message, and ends when it is killed.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { fixedSecret } from '../../src/auth/secret.ts'
import { createMemoryImages } from '../../src/images/memory.ts'
import { createValkeyJobs } from '../../src/jobs/valkey/jobs.ts'
import { createPlainPool } from '../../src/runtimes/pool/pool.ts'
import type { Runtime } from '../../src/runtimes/runtime.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { makePng } from '../../test/support/pictures.ts'

/** What a server is told as JSON in its first argument. */
export interface ServerTask {
  readonly url: string
  /** Of the target, all servers together. */
  readonly concurrency: number
  /** Mean service time of a picture in milliseconds; each takes from half of it to half more. */
  readonly serviceMs: number
  /** Calls at this server at any time: those that run and those that wait. */
  readonly calls: number
  /** The runtime reports a step every 250 ms. */
  readonly steps: boolean
}

/** Counts since the start. */
export interface ServerCounts {
  readonly done: number
  readonly refused: number
  /** Time that slots were in use, in milliseconds, all of this server's runs added up. */
  readonly slotMs: number
}

const STEP_MS = 250
/** Pause after a refusal, in milliseconds. */
const REFUSED_MS = 250
const CALLERS = 10

const task = JSON.parse(process.argv[2] as string) as ServerTask
const png = await makePng({ width: 8, height: 8 })
let done = 0
let refused = 0
let slotMs = 0
let running = 0
let since = performance.now()

function countSlots(change: number): void {
  const now = performance.now()
  slotMs += running * (now - since)
  since = now
  running += change
}

const runtime: Runtime = {
  async generate({ seed }, { signal, onProgress }) {
    const ms = task.serviceMs * (0.5 + Math.random())
    const steps = Math.ceil(ms / STEP_MS)
    let step = 0
    const reports = task.steps ? setInterval(() => onProgress?.({ step: ++step, steps }), STEP_MS) : undefined
    countSlots(1)
    try {
      await sleep(ms, undefined, { signal })
    } finally {
      clearInterval(reports)
      countSlots(-1)
    }
    return { png, width: 8, height: 8, seed, model: 'bench' }
  },
  async check() {},
  async close() {},
}

const jobs = await createValkeyJobs({
  targets: [
    {
      ...{
        name: 'bench',
        kind: 'simulated',
        concurrency: task.concurrency,
        queue: 10_000,
        pool: createPlainPool(runtime, { slots: task.concurrency }),
      },
      ...{ queuePerCaller: 10_000, defaults: { width: 64, height: 64, num_inference_steps: 1 } },
    },
  ],
  ...{ deadlineMs: 300_000, orphanGraceMs: 1000, ttlSeconds: 60, lockMs: 6000, maxReruns: 3 },
  url: fixedSecret(task.url),
  images: createMemoryImages({ maxBytes: 2 ** 26 }),
  log: pino({ level: 'silent' }),
  metrics: createMetrics(),
})

/** Waits for one job after the other as a tool call does. */
async function call(caller: { id: string }): Promise<never> {
  for (;;) {
    try {
      const waiter = await jobs.submit({ prompt: 'a fox' }, caller)
      for await (const _ of waiter.watch());
      await waiter.leave()
      if (waiter.job.state === 'succeeded') done += 1
    } catch {
      refused += 1
      await sleep(REFUSED_MS)
    }
  }
}

process.on('message', () => {
  countSlots(0)
  process.send?.({ done, refused, slotMs } satisfies ServerCounts)
})
process.on('disconnect', () => process.exit())
for (let index = 0; index < task.calls; index += 1) void call({ id: `caller ${index % CALLERS}` })
