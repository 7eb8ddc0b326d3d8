/** Half of capacity, suddenly five times of it, and half again. */
import { evenArrivals, rampingArrivals } from '../lib/arrivals.ts'
import { setting } from '../lib/environment.ts'
import { queueWatch } from '../lib/queue.ts'
import type { Mix } from '../lib/settings.ts'

export const MIX: Mix = setting('MIX') ?? { rest: 40, mcp: 30, 'mcp-2025': 20, 'websocket-mcp': 10 }
export const CAPACITY = setting('CAPACITY_PER_SECOND')
export const SECONDS = setting('PHASE_SECONDS') ?? 30
const LOW = 0.5 * CAPACITY
const HIGH = 5 * CAPACITY
/** What the spike left in the queue is worked off before the time after it is measured. */
const after = 2 * SECONDS + setting('PLACES') / CAPACITY

export const scenarios = {
  before: evenArrivals(LOW, { seconds: SECONDS }),
  spike: rampingArrivals(
    LOW,
    [
      { perSecond: HIGH, seconds: 0.1 * SECONDS },
      { perSecond: HIGH, seconds: 0.8 * SECONDS },
      { perSecond: LOW, seconds: 0.1 * SECONDS },
    ],
    { startSeconds: SECONDS },
  ),
  after: evenArrivals(LOW, { startSeconds: after, seconds: SECONDS }),
  watch: queueWatch(after + SECONDS),
}
