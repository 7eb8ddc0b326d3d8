/** The comparison as one picture: bars, a panel for each figure, best at a glance in which way is better. */
import type { Comparison } from './comparison.ts'

const WIDTH = 960
const MARGIN = 24
const PANELS = 4
const PANEL_WIDTH = (WIDTH - MARGIN * (PANELS + 1)) / PANELS
const BAR_AREA = 190
const ROW = 330
const COLOURS: Readonly<Record<string, string>> = {
  'FastMCP, tool': '#b45309',
  'diffusers-mcp, tool': '#1d4ed8',
  'diffusers-mcp, REST': '#60a5fa',
  FastMCP: '#b45309',
  'diffusers-mcp': '#1d4ed8',
}

/** With a white edge, so that a line behind it does not cross it out. */
const LABEL = 'text-anchor="middle" stroke="#ffffff" stroke-width="4" paint-order="stroke"'

interface Panel {
  readonly title: string
  readonly better: 'lower is better' | 'higher is better'
  readonly bars: readonly { readonly name: string; readonly value: number; readonly label: string }[]
  /** A line across, such as all that is possible. */
  readonly line?: number
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
  const panels = rows.flatMap((row, y) =>
    row.map((panel, x) => draw(panel, MARGIN + x * (PANEL_WIDTH + MARGIN), 64 + y * ROW)),
  )
  const legend = costs.map(
    ({ name }, index) =>
      `<rect x="${MARGIN + index * 190}" y="38" width="12" height="12" fill="${COLOURS[name]}"/>` +
      text(MARGIN + 18 + index * 190, 48, name),
  )
  const height = 64 + rows.length * ROW
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="system-ui, sans-serif" font-size="13">`,
    '<title>diffusers-mcp beside FastMCP: CPU, throughput, p99 and memory, and both at twice the capacity</title>',
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(
      MARGIN,
      24,
      `diffusers-mcp (Node ${versions.node}) beside FastMCP ${versions.fastmcp} (Python ${versions.python}), ${date}, ${machine}`,
    ),
    ...legend,
    ...panels,
    '</svg>\n',
  ].join('\n')
}

function draw({ title, better, bars, line }: Panel, left: number, top: number): string {
  const most = Math.max(line ?? 0, ...bars.map(({ value }) => value)) * 1.1
  const floor = top + 70 + BAR_AREA
  const height = (value: number) => (value / most) * BAR_AREA
  const slot = PANEL_WIDTH / bars.length
  const width = Math.min(48, slot * 0.6)
  return [
    ...wrapped(title).map((words, index) =>
      text(left, top + 14 + index * 16, words, 'font-weight="600" fill="#111827"'),
    ),
    text(left, top + 50, better, 'fill="#6b7280" font-size="11"'),
    ...(line === undefined
      ? []
      : [
          `<line x1="${left}" x2="${left + PANEL_WIDTH}" y1="${floor - height(line)}" y2="${floor - height(line)}" stroke="#111827" stroke-dasharray="4 3"/>`,
        ]),
    ...bars.map(({ name, value, label }, index) => {
      const x = left + slot * index + (slot - width) / 2
      const y = floor - height(value)
      return (
        `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${width.toFixed(1)}" height="${height(value).toFixed(1)}" fill="${COLOURS[name]}"/>` +
        text(x + width / 2, y - 5, label, LABEL)
      )
    }),
    `<line x1="${left}" x2="${left + PANEL_WIDTH}" y1="${floor}" y2="${floor}" stroke="#9ca3af"/>`,
  ].join('\n')
}

/** At most two lines, cut where a semicolon is. */
function wrapped(title: string): string[] {
  return title.split(/(?<=;) /)
}

function text(x: number, y: number, words: string, attributes = 'fill="#111827"'): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${words}</text>`
}
