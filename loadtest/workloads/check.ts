/** What `capacity` predicted, put to the test: Poisson arrivals at 80 % of it, then twice as much as it. */
import { evenArrivals, poissonArrivals } from '../lib/arrivals.ts'
import { setting } from '../lib/environment.ts'
import { queueWatch } from '../lib/queue.ts'
import type { Mix } from '../lib/settings.ts'

export const MIX: Mix = setting('MIX') ?? { rest: 100 }
export const SHARE = 0.8
const CAPACITY = setting('CAPACITY_PER_SECOND')
const SECONDS = setting('PHASE_SECONDS') ?? 60
/** Waits vary more than rates: their phase is four times as long, and all of it has ended before the other begins. */
const WAITS_SECONDS = 4 * SECONDS
const CALM_SECONDS = WAITS_SECONDS / 4 + setting('PLACES') / CAPACITY

export const arrivals = poissonArrivals('waits', SHARE * CAPACITY, { seconds: WAITS_SECONDS, exec: 'waits' })
export const scenarios = {
  waits: arrivals.scenario,
  saturated: evenArrivals(2 * CAPACITY, { startSeconds: WAITS_SECONDS + CALM_SECONDS, seconds: SECONDS }),
  watch: queueWatch(WAITS_SECONDS + CALM_SECONDS + SECONDS),
}
