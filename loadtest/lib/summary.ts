/** The end of a run: the verdict of every threshold, as JSON for the report or as text for a person. */
import { setting } from './environment.ts'

/** What thresholds ask for must be among what is summarized. */
export const summaryTrendStats = ['avg', 'p(50)', 'p(95)', 'p(99)', 'max']

interface Metric {
  readonly values: Record<string, number>
  readonly thresholds?: Record<string, { readonly ok: boolean }>
}

/** k6's handleSummary. */
export function handleSummary({ metrics }: { metrics: Record<string, Metric> }): Record<string, string> {
  const thresholds = Object.entries(metrics).flatMap(([metric, { values, thresholds: all = {} }]) =>
    Object.entries(all).map(([limit, { ok }]) => {
      const statistic = limit.match(/^[a-z]+(\(.*?\))?/)?.[0] ?? ''
      return { metric, limit, ok, value: values[statistic] ?? null }
    }),
  )
  if (setting('RECORDS') === 1) return { stdout: `${JSON.stringify({ verdict: thresholds })}\n` }
  const lines = thresholds.map(
    ({ metric, limit, ok, value }) => `${ok ? 'ok    ' : 'FAILED'} ${metric} ${limit}: ${value?.toFixed(3)}`,
  )
  return { stdout: `${lines.join('\n')}\n` }
}
