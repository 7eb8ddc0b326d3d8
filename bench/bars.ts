/** Bars as an SVG picture: panels in rows, each with a figure of all that are compared, and which way is better. */

const WIDTH = 960
const MARGIN = 24
const PANELS = 4
const PANEL_WIDTH = (WIDTH - MARGIN * (PANELS + 1)) / PANELS
const BAR_AREA = 190
const ROW = 330
/** Between two names of the legend. */
const LEGEND = 190

/** With a white edge, so that a line behind it does not cross it out. */
const LABEL = 'text-anchor="middle" stroke="#ffffff" stroke-width="4" paint-order="stroke"'

export interface Panel {
  readonly title: string
  readonly better: 'lower is better' | 'higher is better'
  readonly bars: readonly { readonly name: string; readonly value: number; readonly label: string }[]
  /** A line across, such as all that is possible. */
  readonly line?: number
}

export interface Bars {
  /** For those who cannot see it. */
  readonly title: string
  readonly heading: string
  /** At most four panels in a row. */
  readonly rows: readonly (readonly Panel[])[]
  /** By the name of what is compared. */
  readonly colours: Readonly<Record<string, string>>
  /** The names in the legend, in their order. */
  readonly legend: readonly string[]
}

/** An SVG document. */
export function drawBars({ title, heading, rows, colours, legend }: Bars): string {
  const panels = rows.flatMap((row, y) =>
    row.map((panel, x) =>
      draw(panel, { left: MARGIN + x * (PANEL_WIDTH + MARGIN), top: 64 + y * ROW, colours }),
    ),
  )
  const names = legend.map(
    (name, index) =>
      `<rect x="${MARGIN + index * LEGEND}" y="38" width="12" height="12" fill="${colours[name]}"/>` +
      text(MARGIN + 18 + index * LEGEND, 48, name),
  )
  const height = 64 + rows.length * ROW
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="system-ui, sans-serif" font-size="13">`,
    `<title>${title}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(MARGIN, 24, heading),
    ...names,
    ...panels,
    '</svg>\n',
  ].join('\n')
}

function draw(
  { title, better, bars, line }: Panel,
  { left, top, colours }: { left: number; top: number; colours: Bars['colours'] },
): string {
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
        `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${width.toFixed(1)}" height="${height(value).toFixed(1)}" fill="${colours[name]}"/>` +
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
