/** A sudden crowd. */
import { callsOf } from '../lib/interfaces.ts'
import { summaryTrendStats } from '../lib/summary.ts'
import { thresholds } from '../thresholds/spike.ts'
import { MIX, scenarios } from '../workloads/spike.ts'

export { watchQueue } from '../lib/queue.ts'
export { handleSummary } from '../lib/summary.ts'

export const options = { scenarios, thresholds, summaryTrendStats }

export default callsOf(MIX)
