/** A connection for every picture. */
import { callsOf } from '../lib/interfaces.ts'
import { summaryTrendStats } from '../lib/summary.ts'
import { thresholds } from '../thresholds/websocket.ts'
import { MIX, scenarios } from '../workloads/websocket.ts'

export { watchQueue } from '../lib/queue.ts'
export { handleSummary } from '../lib/summary.ts'

export const options = { scenarios, thresholds, summaryTrendStats }

export default callsOf(MIX)
