/** Line plots as inline SVG: no library, no script, nothing to fetch. */

export interface Line {
  readonly name: string
  /** A class of the report's style sheet, which gives it its colour. */
  readonly style: string
  /** Of no use where not finite: the line has a gap there. */
  readonly points: readonly (readonly [x: number, y: number])[]
}

export interface Plot {
  readonly title: string
  readonly unit: string
  readonly lines: readonly Line[]
  /** Stretches of the x axis with names. */
  readonly bands?: readonly { readonly name: string; readonly from: number; readonly to: number }[]
  /** The end of the x axis, in seconds. */
  readonly seconds: number
}

const WIDTH = 920
const HEIGHT = 220
const LEFT = 62
const RIGHT = 12
const TOP = 22
const BOTTOM = 26

export function plotSvg({ title, unit, lines, bands = [], seconds }: Plot): string {
  const values = lines.flatMap(({ points }) => points.map(([, y]) => y)).filter(Number.isFinite)
  const yTicks = ticks(values.reduce((a, b) => Math.max(a, b), 0) || 1, 4)
  const yMax = yTicks.at(-1) as number
  const x = (at: number) => LEFT + (at / seconds) * (WIDTH - LEFT - RIGHT)
  const y = (value: number) => HEIGHT - BOTTOM - (value / yMax) * (HEIGHT - TOP - BOTTOM)
  const legend = lines
    .map(({ name, style }) => `<span class="key"><i class="${style}"></i>${escapeHtml(name)}</span>`)
    .join('')
  return [
    `<figure><figcaption><b>${escapeHtml(title)}</b> <small>${escapeHtml(unit)}</small>${legend}</figcaption>`,
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(title)}">`,
    ...bands.map(
      ({ name, from, to }, index) =>
        `<rect class="band${index % 2}" x="${fixed(x(from))}" y="${TOP}" width="${fixed(Math.max(1, x(to) - x(from)))}" height="${HEIGHT - TOP - BOTTOM}"/>` +
        `<text class="band" x="${fixed(x(from) + 4)}" y="${TOP - 7}">${escapeHtml(name)}</text>`,
    ),
    ...yTicks.map(
      (tick) =>
        `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${fixed(y(tick))}" y2="${fixed(y(tick))}"/>` +
        `<text class="tick" text-anchor="end" x="${LEFT - 6}" y="${fixed(y(tick) + 4)}">${label(tick)}</text>`,
    ),
    ...ticks(seconds, 8)
      .filter((tick) => tick <= seconds)
      .map(
        (tick) =>
          `<text class="tick" text-anchor="middle" x="${fixed(x(tick))}" y="${HEIGHT - 8}">${label(tick)} s</text>`,
      ),
    ...lines.map(({ style, points }) => `<path class="${style}" d="${pathOf(points, x, y)}"/>`),
    '</svg></figure>',
  ].join('\n')
}

function pathOf(points: Line['points'], x: (at: number) => number, y: (value: number) => number): string {
  let pen = 'M'
  return points
    .map(([at, value]) => {
      if (!Number.isFinite(value)) {
        pen = 'M'
        return ''
      }
      const move = `${pen}${fixed(x(at))} ${fixed(y(value))}`
      pen = 'L'
      return move
    })
    .join('')
}

/** Round numbers from 0 to the first one at or above `max`, about `count` of them. */
function ticks(max: number, count: number): number[] {
  const rough = max / count
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) as number) * power
  return Array.from({ length: Math.ceil(max / step - 1e-9) + 1 }, (_, index) => index * step)
}

const fixed = (value: number) => value.toFixed(1)
const label = (value: number) => String(Number(value.toPrecision(6)))

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (found) => `&#${found.charCodeAt(0)};`)
}
