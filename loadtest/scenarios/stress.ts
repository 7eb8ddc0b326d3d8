/** Beyond capacity and back: does it refuse politely, and deliver what it can? */
import { callsOf } from '../lib/interfaces.ts'
import { summaryTrendStats } from '../lib/summary.ts'
import { thresholds } from '../thresholds/stress.ts'
import { MIX, scenarios } from '../workloads/stress.ts'

export { watchQueue } from '../lib/queue.ts'
export { handleSummary } from '../lib/summary.ts'

export const options = { scenarios, thresholds, summaryTrendStats }

export default callsOf(MIX)
