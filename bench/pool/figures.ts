/** The figures of one way to the replicas, and the table of all. */
import type { Outcome } from './load.ts'

export interface Figure extends Outcome {
  readonly name: string
  readonly replicas: number
  readonly serviceMs: number
}

/** Most pictures of a replica by the fewest of one, as text: a replica may have made none. */
export const unevenness = ({ most, least }: Outcome) =>
  least === 0 ? `${most} / 0` : (most / least).toFixed(2)

/** A Markdown table. */
export function table(figures: readonly Figure[]): string {
  return [
    '| replicas | way | goodput / capacity (>= 0.97) | most / least made by a replica (<= 1.15) | delivered p50, p99 | refused | failed |',
    '|---|---|---|---|---|---|---|',
    ...figures.map(
      (one) =>
        `| ${one.replicas} of ${one.serviceMs} ms | ${one.name} | ${one.goodput.toFixed(2)} | ${unevenness(one)} | ` +
        `${seconds(one.deliveredP50Ms)}, ${seconds(one.deliveredP99Ms)} | ${one.refused} | ${one.failed} |`,
    ),
  ].join('\n')
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`
