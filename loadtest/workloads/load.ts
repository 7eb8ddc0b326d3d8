/** Poisson arrivals at 80 % of capacity: what a well-sized deployment has to bear. */
import { poissonArrivals } from '../lib/arrivals.ts'
import { setting } from '../lib/environment.ts'
import { queueWatch } from '../lib/queue.ts'
import type { Mix } from '../lib/settings.ts'

export const MIX: Mix = setting('MIX') ?? { rest: 40, mcp: 30, 'mcp-2025': 20, 'websocket-mcp': 10 }
export const SHARE = 0.8
const SECONDS = setting('PHASE_SECONDS') ?? 300

export const arrivals = poissonArrivals('load', SHARE * setting('CAPACITY_PER_SECOND'), { seconds: SECONDS })
export const scenarios = { load: arrivals.scenario, watch: queueWatch(SECONDS) }
