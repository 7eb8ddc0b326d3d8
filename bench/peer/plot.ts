/** The comparison as one picture: bars, a panel for each figure, best at a glance in which way is better. */
import { drawBars, type Panel } from '../bars.ts'
import type { Comparison } from './comparison.ts'

const COLOURS: Readonly<Record<string, string>> = {
  'FastMCP, tool': '#b45309',
  'diffusers-mcp, tool': '#1d4ed8',
  'diffusers-mcp, REST': '#60a5fa',
  FastMCP: '#b45309',
  'diffusers-mcp': '#1d4ed8',
}

/** An SVG document. */
export function plot({ costs, overload, versions, date, machine }: Comparison): string {
  const cost = (
    title: string,
    better: Panel['better'],
    of: (one: Comparison['costs'][number]) => number,
    unit: string,
  ): Panel => ({
    title,
    better,
    bars: costs.map((one) => ({
      name: one.name,
      value: of(one),
      label: `${of(one).toFixed(of(one) < 20 ? 1 : 0)}${unit}`,
    })),
  })
  const overloaded = (runtime: string): Panel[] => {
    const rows = overload.filter((one) => one.runtime === runtime)
    return [
      {
        title: `Goodput / capacity at 2x; runtime ${runtime}`,
        better: 'higher is better',
        bars: rows.map(({ name, goodput }) => ({ name, value: goodput, label: goodput.toFixed(2) })),
        line: 1,
      },
      {
        title: `Its p99 of what is delivered`,
        better: 'lower is better',
        bars: rows.map(({ name, deliveredP99Ms }) => ({
          ...{ name, value: deliveredP99Ms, label: `${(deliveredP99Ms / 1000).toFixed(2)} s` },
        })),
      },
    ]
  }
  const rows = [
    [
      cost('CPU per picture', 'lower is better', ({ cpuMs }) => cpuMs, ' ms'),
      cost('Pictures per second', 'higher is better', ({ perSecond }) => perSecond, ''),
      cost('p99, 4 at once', 'lower is better', ({ p99Ms }) => p99Ms, ' ms'),
      cost('Peak memory', 'lower is better', ({ peakRssMiB }) => peakRssMiB, ' MiB'),
    ],
    [...new Set(overload.map(({ runtime }) => runtime))].flatMap(overloaded),
  ]
  return drawBars({
    ...{ rows, colours: COLOURS, legend: costs.map(({ name }) => name) },
    title: 'diffusers-mcp beside FastMCP: CPU, throughput, p99 and memory, and both at twice the capacity',
    heading: `diffusers-mcp (Node ${versions.node}) beside FastMCP ${versions.fastmcp} (Python ${versions.python}), ${date}, ${machine}`,
  })
}
