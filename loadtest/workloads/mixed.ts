/** Pictures at twice the capacity, and as many queries of data beside them: neither may suffer from the other. */
import { evenArrivals } from '../lib/arrivals.ts'
import { setting } from '../lib/environment.ts'
import { queueWatch } from '../lib/queue.ts'
import type { Mix } from '../lib/settings.ts'

export const MIX: Mix = setting('MIX') ?? {
  rest: 20,
  mcp: 15,
  'mcp-2025': 10,
  'websocket-mcp': 5,
  trino: 30,
  xdp: 20,
}
export const CAPACITY = setting('CAPACITY_PER_SECOND')
export const SECONDS = setting('PHASE_SECONDS') ?? 300
const PICTURES = 100 - (MIX.trino ?? 0) - (MIX.xdp ?? 0)

export const scenarios = {
  mixed: evenArrivals((2 * CAPACITY * 100) / PICTURES, { seconds: SECONDS }),
  watch: queueWatch(SECONDS),
}
