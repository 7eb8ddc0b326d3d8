/** Looks at the target's queue once a second, beside the load. */
import http from 'k6/http'
import type { Scenario } from 'k6/options'
import { FIRST_URL } from './ask.ts'
import { AUTHORIZATION, setting } from './environment.ts'
import { print } from './metrics.ts'

interface TargetQueue {
  readonly target: string
  readonly queued: number
  readonly running: number
}

/** `seconds` of looking, as a scenario whose `exec` is watchQueue. */
export const queueWatch = (seconds: number): Scenario => ({
  executor: 'constant-arrival-rate',
  exec: 'watchQueue',
  rate: 1,
  duration: `${Math.ceil(seconds)}s`,
  preAllocatedVUs: 2,
  gracefulStop: '5s',
})

const PARAMS = { headers: AUTHORIZATION, timeout: '5s', tags: { name: 'watch' } }

/** Prints the queue, and the memory of the server where /metrics is on the same port. */
export function watchQueue(): void {
  const at = Date.now()
  const { body } = http.get(`${FIRST_URL}/api/queue`, PARAMS)
  const { targets = [] } = parsed<{ targets: TargetQueue[] }>(body)
  const model = setting('MODEL')
  const target = targets.find(({ target: name }) => name === model) ?? targets[0]
  if (!target) return
  const metrics = String(http.get(`${FIRST_URL}/metrics`, PARAMS).body)
  const memory = /^process_resident_memory_bytes (\S+)$/m.exec(metrics)?.[1]
  const { queued, running } = target
  print({ queue: queued, running, at, ...(memory === undefined ? {} : { memory: Number(memory) }) })
}

function parsed<T>(text: unknown): Partial<T> {
  try {
    return JSON.parse(String(text))
  } catch {
    return {}
  }
}
