/** How good is good enough below and beyond capacity. */
import { setting } from '../lib/environment.ts'
import { SLACK, type Thresholds } from './always.ts'

const CAPACITY = setting('CAPACITY_PER_SECOND')
const PLACES = setting('PLACES')

/**
 * The longest that an admitted call can take where the queue is bounded: everything that is running and waiting before
 * it, at the rate at which the slots work; milliseconds.
 */
const BOUND_MS = (PLACES / CAPACITY) * 1000
const ADMITTED_P99 = `p(99)<=${(1.2 * BOUND_MS * SLACK).toFixed(0)}`
/** A refusal costs nearly nothing, so that it can come at once. */
const REFUSED_P95 = `p(95)<=${100 * SLACK}`

const of = (metric: string, scenario: string) => `${metric}{scenario:${scenario}}`

/** Nobody is refused, and nobody waits longer than the queue. */
export const calm = (scenario: string): Thresholds => ({
  [of('refused', scenario)]: ['rate==0'],
  [of('admitted_duration', scenario)]: [ADMITTED_P99],
})

/** Random arrivals below capacity come in bunches: a few are refused. */
export const busy = (scenario: string): Thresholds => ({
  [of('refused', scenario)]: ['rate<=0.05'],
  [of('admitted_duration', scenario)]: [ADMITTED_P99],
})

/**
 * Beyond capacity: as many pictures as the slots can make, everybody else refused at once. At least half of those who
 * find no place must be refused: a server without admission control refuses nobody.
 */
export const overloaded = (scenario: string, load: { times: number; seconds: number }): Thresholds => {
  const made = CAPACITY * load.seconds
  const withoutPlace = Math.max(0, 1 - 1 / load.times - PLACES / (load.times * made))
  return {
    [of('pictures', scenario)]: [`count>=${Math.floor((0.95 / SLACK) * made)}`],
    [of('refused', scenario)]: [`rate>=${(withoutPlace / 2).toFixed(3)}`],
    [of('refused_duration', scenario)]: [REFUSED_P95],
    [of('admitted_duration', scenario)]: [ADMITTED_P99],
  }
}
