/** Open arrivals: calls begin when they are due, whatever became of earlier ones. */
import { sleep } from 'k6'
import { SharedArray } from 'k6/data'
import exec from 'k6/execution'
import type { Scenario } from 'k6/options'
import { setting } from './environment.ts'

const MAX_VUS = setting('MAX_VUS')
const TIMEOUT_SECONDS = setting('TIMEOUT_SECONDS')
/** k6 takes whole numbers only: pictures per this many seconds. */
const UNIT_SECONDS = 1000

/** How long a refusal may take before the callers run out, in seconds. */
const REFUSAL_SECONDS = 2
const SPARE = 10

/**
 * Callers for everybody who has a place and everybody who is just being refused, within MAX_VUS. A server that lets more
 * of them wait has no bounded queue, and shows as dropped iterations.
 */
const callers = (perSecond: number) =>
  Math.min(MAX_VUS, setting('PLACES') + Math.ceil(perSecond * REFUSAL_SECONDS) + SPARE)

const common = (perSecond: number) => ({
  timeUnit: `${UNIT_SECONDS}s`,
  preAllocatedVUs: callers(perSecond),
  gracefulStop: `${TIMEOUT_SECONDS + 15}s`,
})

export interface Phase {
  readonly startSeconds?: number
  readonly seconds: number
  readonly exec?: string
}

const timing = ({ startSeconds = 0, exec: name }: Phase) => ({
  startTime: `${startSeconds}s`,
  ...(name === undefined ? {} : { exec: name }),
})

/** `perSecond` calls at even distances. */
export const evenArrivals = (perSecond: number, phase: Phase): Scenario => ({
  executor: 'constant-arrival-rate',
  rate: Math.max(1, Math.round(perSecond * UNIT_SECONDS)),
  duration: `${phase.seconds}s`,
  ...common(perSecond),
  ...timing(phase),
})

/** From one rate to others, each reached after its seconds. */
export const rampingArrivals = (
  from: number,
  stages: readonly { readonly perSecond: number; readonly seconds: number }[],
  phase: Omit<Phase, 'seconds'>,
): Scenario => ({
  executor: 'ramping-arrival-rate',
  startRate: Math.round(from * UNIT_SECONDS),
  stages: stages.map(({ perSecond, seconds }) => ({
    target: Math.round(perSecond * UNIT_SECONDS),
    duration: `${seconds}s`,
  })),
  ...common(Math.max(...stages.map(({ perSecond }) => perSecond))),
  ...timing({ ...phase, seconds: 0 }),
})

/** Arrivals of a Poisson process, for a scenario of that name; `untilDue` begins every iteration. */
export interface PoissonArrivals {
  readonly scenario: Scenario
  untilDue(): void
}

/**
 * Poisson arrivals, given their number: so many points drawn evenly over the time (Ross, Stochastic Processes, theorem
 * 2.3.1). k6 begins iterations at even distances only, so each sleeps for what it is early; all are late by the same
 * constant, the most by which one is due before its even place.
 */
export function poissonArrivals(name: string, perSecond: number, phase: Phase): PoissonArrivals {
  const count = Math.max(1, Math.round(perSecond * phase.seconds))
  // Drawn once for all VUs. The last one is the longest sleep.
  const sleeps = new SharedArray(`arrivals ${name}`, () => {
    const due = Array.from({ length: count }, () => Math.random() * phase.seconds).sort((a, b) => a - b)
    const early = due.map((at, index) => at - index / perSecond)
    const shift = -Math.min(0, ...early)
    return [...early.map((seconds) => seconds + shift), Math.max(...early) + shift]
  })
  const longest = sleeps[count] as number
  const sleepers = Math.ceil(longest * perSecond) + 1
  return {
    scenario: {
      executor: 'constant-arrival-rate',
      rate: Math.max(1, Math.round(perSecond * UNIT_SECONDS)),
      // Half a distance more or less, so that exactly `count` begin.
      duration: `${((count - 0.5) / perSecond).toFixed(3)}s`,
      ...common(perSecond),
      preAllocatedVUs: callers(perSecond) + sleepers,
      gracefulStop: `${Math.ceil(longest) + TIMEOUT_SECONDS + 15}s`,
      ...timing(phase),
    },
    untilDue() {
      const { iterationInTest, startTime } = exec.scenario
      const due = startTime + (iterationInTest / perSecond + (sleeps[iterationInTest] ?? 0)) * 1000
      sleep(Math.max(0, due - Date.now()) / 1000)
    },
  }
}
