/** The report of a run, and of two runs beside each other: one HTML file that needs nothing else. */
import { escapeHtml, type Line, type Plot, plotSvg } from './plot.ts'
import type { Phase, Result, Slice, Spread, Table } from './result.ts'

/** The page of one run. */
export function reportHtml(result: Result): string {
  const { scenario, passed, startedAt, seconds, server, target, thresholds, advice } = result
  const crossed = thresholds.filter(({ ok }) => !ok)
  const verdict = passed
    ? `Passed: all ${thresholds.length} thresholds hold.`
    : `Failed: ${crossed.length} of ${thresholds.length} thresholds are crossed.`
  return page(`Load test: ${scenario}`, [
    `<p class="verdict ${passed ? 'ok' : 'bad'}">${verdict}</p>`,
    ...(advice.length > 0
      ? [`<ul class="advice">${advice.map((line) => `<li>${escapeHtml(line)}</li>`).join('')}</ul>`]
      : []),
    `<p>${escapeHtml(server)}. Target <b>${escapeHtml(target.name)}</b>: concurrency ${target.concurrency}, queue ${target.queue}. ` +
      `${startedAt.slice(0, 19).replace('T', ' ')} UTC, ${seconds.toFixed(0)} s.</p>`,
    ...result.tables.map(tableHtml),
    tableHtml(phaseTable(result.phases)),
    ...plotsOf(result).map(plotSvg),
    tableHtml({
      title: 'Thresholds',
      columns: ['', 'metric', 'limit', 'measured'],
      rows: [...thresholds]
        .sort((a, b) => Number(a.ok) - Number(b.ok) || a.metric.localeCompare(b.metric))
        .map(({ ok, metric, limit, value }) => [
          ok ? 'ok' : 'CROSSED',
          metric,
          limit,
          value === null ? '-' : short(value),
        ]),
    }),
    tableHtml({ title: 'Settings', columns: ['setting', 'value'], rows: Object.entries(result.settings) }),
  ])
}

const column = (series: readonly Slice[], of: (slice: Slice) => number | undefined): Line['points'] =>
  series.map((slice) => [slice.at, of(slice) ?? Number.NaN])

function plotsOf({ series, queue, memory, phases, seconds, settings }: Result): Plot[] {
  const capacity = Number(settings.CAPACITY_PER_SECOND ?? 0)
  const bands = phases.length > 1 ? phases : []
  const plots: Plot[] = [
    {
      ...{ title: 'Arrivals and refusals', unit: 'per second' },
      lines: [
        { name: 'arrivals', style: 'grey', points: column(series, ({ arrivals }) => arrivals) },
        { name: 'refused', style: 'orange', points: column(series, ({ refusals }) => refusals) },
        { name: 'failed', style: 'red', points: column(series, ({ failures }) => failures) },
      ],
      ...{ bands, seconds },
    },
    {
      ...{ title: 'Goodput', unit: 'pictures per second' },
      lines: [
        ...(capacity > 0
          ? [{ name: 'capacity', style: 'grey', points: [0, seconds].map((at) => [at, capacity] as const) }]
          : []),
        { name: 'pictures', style: 'blue', points: column(series, ({ goodput }) => goodput) },
      ],
      ...{ bands, seconds },
    },
    {
      ...{ title: 'Latency of admitted calls', unit: 'ms, by the time they ended' },
      lines: [
        { name: 'p99', style: 'red', points: column(series, ({ p99 }) => p99) },
        { name: 'p95', style: 'orange', points: column(series, ({ p95 }) => p95) },
        { name: 'p50', style: 'blue', points: column(series, ({ p50 }) => p50) },
        {
          name: 'p95 of the wait for a slot',
          style: 'grey',
          points: column(series, ({ waitP95 }) => waitP95),
        },
      ],
      ...{ bands, seconds },
    },
    {
      ...{ title: 'The target', unit: 'pictures, looked at once a second' },
      lines: [
        { name: 'waiting', style: 'orange', points: queue.map(({ at, queued }) => [at, queued]) },
        { name: 'running', style: 'blue', points: queue.map(({ at, running }) => [at, running]) },
      ],
      ...{ bands, seconds },
    },
  ]
  if (memory.length > 0)
    plots.push({
      ...{ title: 'Memory of the (first) server', unit: 'MB resident' },
      lines: [{ name: 'memory', style: 'blue', points: memory.map(({ at, bytes }) => [at, bytes / 1e6]) }],
      ...{ bands, seconds },
    })
  return plots
}

function phaseTable(phases: readonly Phase[]): Table {
  const all = (spread: Spread | undefined) =>
    spread ? [spread.p50, spread.p95, spread.p99].map((ms) => ms.toFixed(0)).join(' / ') : '-'
  return {
    title: 'Phases (times: p50 / p95 / p99 in milliseconds)',
    columns: [
      ...['phase', 'calls/s', 'pictures/s', 'delivered', 'refused', 'failed'],
      ...['admitted, ms', 'waiting', 'inference', 'server and network', 'refused'],
    ],
    rows: phases.map((phase) => [
      ...[phase.name, phase.offeredPerSecond.toFixed(2), phase.goodputPerSecond.toFixed(2)],
      ...[phase.delivered, phase.refused, phase.failed, all(phase.admittedMs), all(phase.queuedMs)],
      ...[all(phase.inferenceMs), all(phase.overheadMs), all(phase.refusedMs)],
    ]),
  }
}

/** Two runs beside each other, phase by phase: the second as a factor of the first. */
export function comparisonTable(a: Result, b: Result): Table {
  const rows = a.phases.flatMap((before) => {
    const after = b.phases.find(({ name }) => name === before.name)
    if (!after) return []
    const figures: [string, (phase: Phase) => number | undefined][] = [
      ['pictures/s', ({ goodputPerSecond }) => goodputPerSecond],
      ['refused, share', ({ refused, calls }) => refused / calls],
      ['failed, share', ({ failed, calls }) => failed / calls],
      ['admitted p50, ms', ({ admittedMs }) => admittedMs?.p50],
      ['admitted p99, ms', ({ admittedMs }) => admittedMs?.p99],
      ['waiting p95, ms', ({ queuedMs }) => queuedMs?.p95],
      ['inference p50, ms', ({ inferenceMs }) => inferenceMs?.p50],
      ['refused p95, ms', ({ refusedMs }) => refusedMs?.p95],
    ]
    return figures.flatMap(([name, of]) => {
      const [x, y] = [of(before), of(after)]
      if (x === undefined || y === undefined || (x === 0 && y === 0)) return []
      return [[before.name, name, short(x), short(y), x === 0 ? '-' : `x ${(y / x).toFixed(2)}`]]
    })
  })
  return { title: 'Phase by phase', columns: ['phase', 'figure', 'first', 'second', 'second / first'], rows }
}

/** The page of two runs. */
export function comparisonHtml(a: Result, b: Result): string {
  const seconds = Math.max(a.seconds, b.seconds)
  const bands = a.phases.length > 1 ? a.phases : []
  const pair = (title: string, unit: string, of: (slice: Slice) => number | undefined): Plot => ({
    ...{ title, unit, bands, seconds },
    lines: [
      { name: 'first', style: 'grey', points: column(a.series, of) },
      { name: 'second', style: 'blue', points: column(b.series, of) },
    ],
  })
  const about = ({ server, startedAt, passed, target }: Result) =>
    `${startedAt.slice(0, 16).replace('T', ' ')} UTC, ${escapeHtml(server)}, concurrency ${target.concurrency}, queue ${target.queue}: ${passed ? 'passed' : 'failed'}`
  return page(`Load test: ${a.scenario}, two runs`, [
    `<p>First: ${about(a)}.<br>Second: ${about(b)}.</p>`,
    tableHtml(comparisonTable(a, b)),
    plotSvg(pair('Pictures', 'per second', ({ goodput }) => goodput)),
    plotSvg(pair('Refusals', 'per second', ({ refusals }) => refusals)),
    plotSvg(pair('p95 of admitted calls', 'ms', ({ p95 }) => p95)),
    plotSvg(pair('p95 of the wait for a slot', 'ms', ({ waitP95 }) => waitP95)),
  ])
}

function tableHtml({ title, columns, rows }: Table): string {
  const cells = (row: readonly (string | number)[], tag: string) =>
    `<tr>${row.map((cell) => `<${tag}>${escapeHtml(String(cell))}</${tag}>`).join('')}</tr>`
  return `<h2>${escapeHtml(title)}</h2><div class="table"><table><thead>${cells(columns, 'th')}</thead><tbody>${rows.map((row) => cells(row, 'td')).join('')}</tbody></table></div>`
}

const short = (value: number) => String(Number(value.toPrecision(4)))

const page = (title: string, parts: readonly string[]) => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escapeHtml(title)}</title>
<style>
:root { color-scheme: light dark; --ink: light-dark(#1c2330, #e4e8ee); --soft: light-dark(#667085, #98a2b3);
  --grid: light-dark(#e4e7ec, #344054); --ground: light-dark(#fff, #12161c); --blue: light-dark(#1d6fdc, #6aa9ff);
  --orange: light-dark(#d97706, #f5b041); --red: light-dark(#c8322b, #ff7b72); --grey: light-dark(#98a2b3, #7d8795);
  --green: light-dark(#167a3e, #4cc27d) }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 1080px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 0 .6rem } h2 { font-size: 1.05rem; margin: 1.8rem 0 .4rem }
.verdict { font-weight: 600; font-size: 1.1rem; padding: .6rem .9rem; border-left: 5px solid; margin: 0 0 .8rem }
.ok { border-color: var(--green); color: var(--green) } .bad { border-color: var(--red); color: var(--red) }
.table { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--grid); vertical-align: top; white-space: nowrap }
th { color: var(--soft); font-weight: 500 }
figure { margin: 1.6rem 0 0 } figcaption { font-size: .95rem } small { color: var(--soft) }
.key { margin-left: 1rem; font-size: .82rem; white-space: nowrap } .key i { display: inline-block; width: 18px; border-top: 3px solid; margin: 0 5px 3px 0 }
i.blue { border-color: var(--blue) } i.orange { border-color: var(--orange) } i.red { border-color: var(--red) } i.grey { border-color: var(--grey) }
svg { width: 100%; height: auto; display: block } path { fill: none; stroke-width: 1.8; stroke-linejoin: round }
path.blue { stroke: var(--blue) } path.orange { stroke: var(--orange) } path.red { stroke: var(--red) } path.grey { stroke: var(--grey) }
.grid { stroke: var(--grid) } text { font: 11px system-ui, sans-serif; fill: var(--soft) }
.band0 { fill: var(--grid); opacity: .35 } .band1 { fill: none }
</style></head><body>
<h1>${escapeHtml(title)}</h1>
${parts.join('\n')}
</body></html>
`
