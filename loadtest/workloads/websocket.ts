/** A connection for every picture, half of them plain messages and half MCP: 80 % of capacity, then twice of it. */
import { evenArrivals } from '../lib/arrivals.ts'
import { setting } from '../lib/environment.ts'
import { queueWatch } from '../lib/queue.ts'
import type { Mix } from '../lib/settings.ts'

export const MIX: Mix = setting('MIX') ?? { websocket: 50, 'websocket-mcp': 50 }
export const CAPACITY = setting('CAPACITY_PER_SECOND')
export const SECONDS = (setting('PHASE_SECONDS') ?? 300) / 2

export const scenarios = {
  below: evenArrivals(0.8 * CAPACITY, { seconds: SECONDS }),
  double: evenArrivals(2 * CAPACITY, { startSeconds: SECONDS, seconds: SECONDS }),
  watch: queueWatch(2 * SECONDS),
}
