/** The measurement as one picture: a column for each number of replicas; goodput above, evenness below. */
import { drawBars, type Panel } from '../bars.ts'
import { type Figure, unevenness } from './figures.ts'

const COLOURS: Readonly<Record<string, string>> = {
  pool: '#1d4ed8',
  balancer: '#9ca3af',
  'Ray Serve': '#b45309',
}
/** A replica that made none is infinitely far from the others: its bar ends here. */
const MOST_UNEVEN = 3

export interface PoolFigures {
  readonly date: string
  readonly machine: string
  readonly figures: readonly Figure[]
}

/** An SVG document. */
export function plot({ date, machine, figures }: PoolFigures): string {
  const columns = [...Map.groupBy(figures, ({ replicas }) => replicas)]
  const goodput = columns.map(
    ([replicas, ways]): Panel => ({
      ...{ title: `Goodput / capacity; ${of(replicas)}`, better: 'higher is better', line: 1 },
      bars: ways.map((one) => ({ name: one.name, value: one.goodput, label: one.goodput.toFixed(2) })),
    }),
  )
  const evenness = columns.map(
    ([replicas, ways]): Panel => ({
      ...{ title: `Most / least made; ${of(replicas)}`, better: 'lower is better', line: 1 },
      bars: ways.map((one) => ({
        name: one.name,
        value: Math.min(MOST_UNEVEN, one.most / one.least),
        label: unevenness(one),
      })),
    }),
  )
  return drawBars({
    ...{ rows: [goodput, evenness], colours: COLOURS, legend: Object.keys(COLOURS) },
    title:
      'Many replicas at twice what they can make: pictures that reach callers, and how evenly they are made',
    heading: `One-slot replicas at twice what they can make, ${date}, ${machine}`,
  })
}

const of = (replicas: number) => (replicas === 1 ? '1 replica' : `${replicas} replicas`)
