/** Random arrivals below capacity. */
import { callsOf } from '../lib/interfaces.ts'
import { summaryTrendStats } from '../lib/summary.ts'
import { thresholds } from '../thresholds/load.ts'
import { arrivals, MIX, scenarios } from '../workloads/load.ts'

export { watchQueue } from '../lib/queue.ts'
export { handleSummary } from '../lib/summary.ts'

export const options = { scenarios, thresholds, summaryTrendStats }

const call = callsOf(MIX)
export default async function () {
  arrivals.untilDue()
  await call()
}
