/** Below capacity, far beyond it, and back: a server that refuses in time comes back at once. */
import { evenArrivals } from '../lib/arrivals.ts'
import { setting } from '../lib/environment.ts'
import { queueWatch } from '../lib/queue.ts'
import type { Mix } from '../lib/settings.ts'

export const MIX: Mix = setting('MIX') ?? { rest: 40, mcp: 30, 'mcp-2025': 20, 'websocket-mcp': 10 }
/** Multiples of capacity, in their order. */
export const LEVELS = { half: 0.5, nearly: 0.9, double: 2, peak: setting('PEAK'), recovered: 0.5 }
export const SECONDS = setting('PHASE_SECONDS') ?? 60
export const CAPACITY = setting('CAPACITY_PER_SECOND')

/** What the overload left in the queue is worked off before the recovery is measured. */
const pause = setting('PLACES') / CAPACITY
const startOf = (index: number) => index * SECONDS + (index === 4 ? pause : 0)

export const scenarios = {
  ...Object.fromEntries(
    Object.entries(LEVELS).map(([name, times], index) => [
      name,
      evenArrivals(times * CAPACITY, { startSeconds: startOf(index), seconds: SECONDS }),
    ]),
  ),
  watch: queueWatch(startOf(4) + SECONDS),
}
