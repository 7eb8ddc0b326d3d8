/** Poisson arrivals at 70 % of capacity for long: what grows, slows down or leaks? */
import { poissonArrivals } from '../lib/arrivals.ts'
import { setting } from '../lib/environment.ts'
import { queueWatch } from '../lib/queue.ts'
import type { Mix } from '../lib/settings.ts'

export const MIX: Mix = setting('MIX') ?? { rest: 40, mcp: 30, 'mcp-2025': 20, 'websocket-mcp': 10 }
export const SHARE = 0.7
const SECONDS = setting('PHASE_SECONDS') ?? 3600

export const arrivals = poissonArrivals('soak', SHARE * setting('CAPACITY_PER_SECOND'), { seconds: SECONDS })
export const scenarios = { soak: arrivals.scenario, watch: queueWatch(SECONDS) }
