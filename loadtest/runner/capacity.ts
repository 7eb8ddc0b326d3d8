/** `capacity`: measures service times, predicts what the deployment sustains and how long calls wait, and checks that. */
import { Advice } from '../../scripts/deploy/kube.ts'
import { queueModel } from '../model/queueing.ts'
import { bestLevel, type Level, rateOf, sizeFor } from '../model/sizing.ts'
import { type RunScenario, type Settings, withoutSecrets } from './k6.ts'
import type { Call, Lines } from './lines.ts'
import { type Check, percentile, type Result, resultOf, type Table } from './result.ts'
import type { Target } from './target.ts'

/** Shares of capacity at which the check runs; loadtest/workloads/check.ts. */
const CALM_SHARE = 0.8

/** Service times by number of callers, of the calls that no earlier level overlapped. */
export function levelsOf(calls: readonly Call[]): Level[] {
  return [...Map.groupBy(calls, ({ phase }) => phase)].flatMap(([phase, all]) => {
    const callers = Number(/^callers-(\d+)$/.exec(phase)?.[1])
    if (!callers) return []
    const begun = all.reduce((first, { at }) => Math.min(first, at), Number.POSITIVE_INFINITY)
    // A caller's first picture may have waited for the last ones of the level before.
    const first = percentile(
      all.map(({ ms }) => ms),
      0.5,
    )
    const late = all.filter(({ at, state }) => state === 'delivered' && at >= begun + first / 2)
    const counted = late.length > 0 ? late : all.filter(({ state }) => state === 'delivered')
    if (counted.length === 0) return []
    return [
      {
        callers,
        calls: counted.length,
        slotSeconds: mean(counted.map(({ ms }) => ms)) / 1000,
        inferenceSeconds: mean(counted.map(({ inference = 0 }) => inference)) / 1000,
      },
    ]
  })
}

/** @throws Advice when no picture was made. */
async function measureLevels(run: RunScenario, settings: Settings, target: Target): Promise<Level[]> {
  const lines = await run('capacity', { ...settings, CONCURRENCY: String(target.concurrency) })
  const levels = levelsOf(lines.calls)
  if (levels.length === 0) {
    const why = lines.calls.find(({ state }) => state !== 'delivered')
    throw new Advice(`No picture was made: ${why?.why ?? why?.code ?? 'no call ended; raise PHASE_SECONDS'}.`)
  }
  return levels
}

/** What the deployment sustains, in pictures per second. */
export async function measureCapacity(run: RunScenario, settings: Settings, target: Target): Promise<number> {
  return rateOf((await measureLevels(run, settings, target)).at(-1) as Level)
}

export interface CapacityOptions {
  readonly run: RunScenario
  readonly settings: Settings
  readonly server: string
  readonly target: Target
  /** A wished rate and deadline to size for; absent: what was measured, and the longest wait. */
  readonly ratePerSecond?: number | undefined
  readonly deadlineSeconds?: number | undefined
  /** Replicas of the runtime that are measured; absent: as many as the server tells, else one. */
  readonly replicas?: number | undefined
}

/** Measures, predicts and checks; prints as it goes. */
export async function capacity(options: CapacityOptions): Promise<Result> {
  const { run, settings, server, target } = options
  const places = Number(settings.PLACES ?? target.concurrency + target.queue)
  const levels = await measureLevels(run, settings, target)
  const full = levels.at(-1) as Level
  const best = bestLevel(levels)
  const perSecond = rateOf(full)
  const predict = (share: number) =>
    queueModel({
      ...{ arrivalsPerSecond: share * perSecond, serviceSeconds: full.slotSeconds },
      ...{ servers: target.concurrency, places },
    })
  const calm = predict(CALM_SHARE)
  const overloaded = predict(2)
  print(`Predicted: ${overloaded.deliveredPerSecond.toFixed(3)} pictures/s sustained. Checking that ...`)

  const lines = await run('check', {
    ...settings,
    CAPACITY_PER_SECOND: perSecond.toFixed(6),
    PLACES: String(places),
  })
  const result = resultOf(lines, {
    ...{ scenario: 'capacity', server, target },
    settings: { ...withoutSecrets(settings), CAPACITY_PER_SECOND: perSecond.toFixed(6) },
  })
  const waits = lines.calls.filter(({ phase }) => phase === 'waits')
  const queued = waits.flatMap(({ queued: ms }) => (ms === undefined ? [] : [ms / 1000]))
  const checks: Check[] = [
    {
      what: 'sustained rate, at 2x',
      predicted: overloaded.deliveredPerSecond,
      measured: sustained(lines, { boundSeconds: places / perSecond }),
      ...{ unit: 'pictures/s', goal: 0.1 },
    },
    {
      what: 'p95 wait at 80 %',
      predicted: calm.waitWithin(0.95),
      measured: percentile(queued, 0.95),
      ...{ unit: 's', goal: 0.2 },
    },
  ]
  const refused = waits.filter(({ state }) => state === 'refused').length / waits.length
  const tables = [
    levelTable(levels),
    checkTable(checks),
    {
      title: 'Refused at 80 %',
      columns: ['predicted', 'measured', 'calls'],
      rows: [[percent(calm.refusedShare), percent(refused), waits.length]],
    },
    sizingTable({ ...options, best, perSecond }),
  ]
  for (const table of tables) print(tableText(table))
  return { ...result, tables }
}

/** Pictures per second of the overloaded phase, once its queue is full and until its last call. */
export function sustained(lines: Lines, { boundSeconds }: { boundSeconds: number }): number {
  const calls = lines.calls.filter(({ phase }) => phase === 'saturated')
  const times = calls.map(({ at }) => at)
  const from = times.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY) + boundSeconds * 1000
  const to = times.reduce((a, b) => Math.max(a, b), 0)
  const ends = calls
    .flatMap(({ at, ms, state }) => (state === 'delivered' ? [at + ms] : []))
    .filter((end) => end >= from && end <= to)
  return (ends.length * 1000) / (to - from)
}

function levelTable(levels: readonly Level[]): Table {
  return {
    title: 'Service time by number at once',
    columns: ['at once', 'pictures', 'time of a picture', 'of it inference', 'pictures/s'],
    rows: levels.map((level) => [
      ...[level.callers, level.calls, seconds(level.slotSeconds), seconds(level.inferenceSeconds)],
      rateOf(level).toFixed(3),
    ]),
  }
}

function checkTable(checks: readonly Check[]): Table {
  return {
    title: 'Predicted and measured',
    columns: ['what', 'predicted', 'measured', 'apart', 'goal'],
    rows: checks.map(({ what, predicted, measured, unit, goal }) => {
      const apart = measured / predicted - 1
      const sign = apart >= 0 ? '+' : ''
      return [
        ...[what, `${predicted.toFixed(3)} ${unit}`, `${measured.toFixed(3)} ${unit}`],
        `${sign}${percent(apart)}${Math.abs(apart) <= goal ? '' : ' !'}`,
        `within ${percent(goal)}`,
      ]
    }),
  }
}

/** What to configure now, and what a wished rate needs. */
function sizingTable(options: CapacityOptions & { best: Level; perSecond: number }): Table {
  const { target, best, perSecond } = options
  const replicas = options.replicas ?? target.replicas ?? 1
  const { ratePerSecond = 0.8 * perSecond, deadlineSeconds } = options
  const deadline = deadlineSeconds ?? (target.concurrency + target.queue) / perSecond
  const slotsPerReplica = Math.max(1, Math.round(best.callers / replicas))
  const sizing = sizeFor({
    ...{ ratePerSecond, deadlineSeconds: deadline, slotSeconds: best.slotSeconds, slotsPerReplica },
  })
  const queueNow = Math.max(0, Math.floor(best.callers * (deadline / best.slotSeconds - 1)))
  return {
    title: 'Recommended',
    columns: [
      ...['for', 'replicas of the runtime', 'slots of each', 'concurrency', 'queue'],
      ...['refused', 'p95 wait', 'sustains'],
    ],
    rows: [
      [
        `this deployment, every picture within ${seconds(deadline)}`,
        ...[replicas, slotsPerReplica, best.callers, queueNow, '-', '-', `${rateOf(best).toFixed(3)}/s`],
      ],
      [
        `${ratePerSecond.toFixed(2)} pictures/s, each within ${seconds(deadline)}`,
        ...[sizing.replicas, slotsPerReplica, sizing.concurrency, sizing.queue, percent(sizing.refusedShare)],
        ...[seconds(sizing.p95WaitSeconds), `${sizing.sustainedPerSecond.toFixed(3)}/s`],
      ],
    ],
  }
}

/** A table for a terminal. */
export function tableText({ title, columns, rows }: Table): string {
  const lines = [columns, ...rows].map((row) => row.map(String))
  const widths = columns.map((_, column) => Math.max(...lines.map((row) => (row[column] ?? '').length)))
  const text = lines.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '))
  return `\n${title}\n${text.map((line) => `  ${line.trimEnd()}`).join('\n')}`
}

const print = (text: string) => process.stdout.write(`${text}\n`)
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
const seconds = (value: number) => `${value.toFixed(value < 10 ? 3 : 1)} s`
const percent = (share: number) => `${(share * 100).toFixed(1)} %`
