/** The same load for long: what grows, slows down or leaks? */
import { callsOf } from '../lib/interfaces.ts'
import { summaryTrendStats } from '../lib/summary.ts'
import { thresholds } from '../thresholds/soak.ts'
import { arrivals, MIX, scenarios } from '../workloads/soak.ts'

export { watchQueue } from '../lib/queue.ts'
export { handleSummary } from '../lib/summary.ts'

export const options = { scenarios, thresholds, summaryTrendStats }

const call = callsOf(MIX)
export default async function () {
  arrivals.untilDue()
  await call()
}
