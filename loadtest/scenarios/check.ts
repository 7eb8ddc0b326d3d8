/** What the model predicted, measured. The second half of `npm run loadtest -- capacity`. */
import { callsOf } from '../lib/interfaces.ts'
import { summaryTrendStats } from '../lib/summary.ts'
import { thresholds } from '../thresholds/check.ts'
import { arrivals, MIX, scenarios } from '../workloads/check.ts'

export { watchQueue } from '../lib/queue.ts'
export { handleSummary } from '../lib/summary.ts'

export const options = { scenarios, thresholds, summaryTrendStats }

const call = callsOf(MIX)
export default call
export async function waits() {
  arrivals.untilDue()
  await call()
}
