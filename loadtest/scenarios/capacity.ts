/** How long does a picture take beside n - 1 others? The first half of `npm run loadtest -- capacity`. */
import { callsOf } from '../lib/interfaces.ts'
import { summaryTrendStats } from '../lib/summary.ts'
import { thresholds } from '../thresholds/capacity.ts'
import { MIX, scenarios } from '../workloads/capacity.ts'

export { watchQueue } from '../lib/queue.ts'
export { handleSummary } from '../lib/summary.ts'

export const options = { scenarios, thresholds, summaryTrendStats }

export default callsOf(MIX)
