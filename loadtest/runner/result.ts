/** What a run came to: one JSON document, of which the report is made. */
import type { Call, Lines, Verdict } from './lines.ts'

export interface Spread {
  readonly p50: number
  readonly p95: number
  readonly p99: number
}

export interface Phase {
  readonly name: string
  /** Seconds since the run began: its first and its last call. */
  readonly from: number
  readonly to: number
  readonly calls: number
  readonly delivered: number
  readonly refused: number
  readonly failed: number
  /** Calls and pictures per second while the phase lasted. */
  readonly offeredPerSecond: number
  readonly goodputPerSecond: number
  /** Milliseconds; absent where there is none. */
  readonly admittedMs?: Spread
  readonly refusedMs?: Spread
  readonly queuedMs?: Spread
  readonly inferenceMs?: Spread
  /** Of an admitted call without the two above: server and network. */
  readonly overheadMs?: Spread
}

/** A slice of time. Rates per second; latencies in milliseconds, of the calls that ended in it. */
export interface Slice {
  /** Its middle, in seconds since the run began. */
  readonly at: number
  readonly arrivals: number
  readonly goodput: number
  readonly refusals: number
  readonly failures: number
  readonly p50?: number
  readonly p95?: number
  readonly p99?: number
  readonly waitP95?: number
}

/** One line of "predicted beside measured". */
export interface Check {
  readonly what: string
  readonly predicted: number
  readonly measured: number
  readonly unit: string
  /** How far apart they may be, as a share. */
  readonly goal: number
}

/** A table that a scenario adds to its report. */
export interface Table {
  readonly title: string
  readonly columns: readonly string[]
  readonly rows: readonly (readonly (string | number)[])[]
}

export interface Result {
  readonly scenario: string
  readonly startedAt: string
  readonly seconds: number
  readonly server: string
  readonly target: { readonly name: string; readonly concurrency: number; readonly queue: number }
  /** Without secrets. */
  readonly settings: Readonly<Record<string, string>>
  readonly passed: boolean
  readonly thresholds: readonly Verdict[]
  /** What a person should know or do. */
  readonly advice: readonly string[]
  readonly phases: readonly Phase[]
  readonly series: readonly Slice[]
  readonly queue: readonly { readonly at: number; readonly queued: number; readonly running: number }[]
  readonly memory: readonly { readonly at: number; readonly bytes: number }[]
  readonly tables: readonly Table[]
}

/** About so many slices, none shorter than a second. */
const SLICES = 120

/** What k6 told, summed up. @throws Error for a run without a call. */
export function resultOf(
  lines: Lines,
  about: Pick<Result, 'scenario' | 'server' | 'target' | 'settings'>,
): Result {
  const { calls, samples } = lines
  if (calls.length === 0) throw new Error('The run made no call; its words are above.')
  const start = least([...calls, ...samples].map(({ at }) => at))
  const end = calls.reduce((latest, { at, ms }) => Math.max(latest, at + ms), start)
  const since = (at: number) => (at - start) / 1000
  const thresholds = lines.verdict ?? []
  return {
    ...about,
    startedAt: new Date(start).toISOString(),
    seconds: since(end),
    passed: thresholds.every(({ ok }) => ok),
    thresholds,
    advice: adviceFor(lines),
    phases: [...Map.groupBy(calls, ({ phase }) => phase)]
      .map(([name, ofPhase]) => phaseOf(name, { ofPhase, calls, since }))
      .sort((a, b) => a.from - b.from),
    series: seriesOf(calls, { seconds: since(end), since }),
    queue: samples.map(({ at, queue, running }) => ({ at: since(at), queued: queue, running })),
    memory: samples.flatMap(({ at, memory }) =>
      memory === undefined ? [] : [{ at: since(at), bytes: memory }],
    ),
    tables: [],
  }
}

function phaseOf(
  name: string,
  {
    ofPhase,
    calls,
    since,
  }: { ofPhase: readonly Call[]; calls: readonly Call[]; since: (at: number) => number },
): Phase {
  const times = ofPhase.map(({ at }) => since(at))
  const [from, to] = [least(times), most(times)]
  const seconds = Math.max(1, to - from)
  const isPicture = ({ queued }: Call) => queued !== undefined
  const endsWithin = ({ at, ms }: Call) => since(at + ms) >= from && since(at + ms) <= to
  const delivered = ofPhase.filter(isPicture)
  const refused = ofPhase.filter(({ state }) => state === 'refused')
  // Whoever asked for them: the slots do not know of phases.
  const ended = calls.filter((call) => isPicture(call) && endsWithin(call))
  return {
    ...{ name, from, to, calls: ofPhase.length, delivered: delivered.length, refused: refused.length },
    failed: ofPhase.filter(({ state }) => state === 'failed').length,
    offeredPerSecond: ofPhase.length / seconds,
    goodputPerSecond: ended.length / seconds,
    ...spreadAs('admittedMs', delivered, ({ ms }) => ms),
    ...spreadAs('refusedMs', refused, ({ ms }) => ms),
    ...spreadAs('queuedMs', delivered, ({ queued = 0 }) => queued),
    ...spreadAs('inferenceMs', delivered, ({ inference = 0 }) => inference),
    ...spreadAs('overheadMs', delivered, ({ ms, queued = 0, inference = 0 }) =>
      Math.max(0, ms - queued - inference),
    ),
  }
}

function seriesOf(
  calls: readonly Call[],
  { seconds, since }: { seconds: number; since: (at: number) => number },
): Slice[] {
  const width = Math.max(1, Math.ceil(seconds / SLICES))
  const count = Math.ceil(seconds / width)
  const sliceOf = (at: number) => Math.min(count - 1, Math.max(0, Math.floor(since(at) / width)))
  const arrived = Map.groupBy(calls, ({ at }) => sliceOf(at))
  const ended = Map.groupBy(calls, ({ at, ms }) => sliceOf(at + ms))
  return Array.from({ length: count }, (_, index) => {
    const now = ended.get(index) ?? []
    // The last one may be shorter; a sliver of it would tell of chance alone.
    const length = Math.max(width / 2, Math.min(width, seconds - index * width))
    const pictures = now.filter(({ queued }) => queued !== undefined)
    const times = pictures.map(({ ms }) => ms)
    const waits = pictures.map(({ queued = 0 }) => queued)
    return {
      at: Math.min(seconds, (index + 0.5) * width),
      arrivals: (arrived.get(index) ?? []).length / length,
      goodput: pictures.length / length,
      refusals: now.filter(({ state }) => state === 'refused').length / length,
      failures: now.filter(({ state }) => state === 'failed').length / length,
      ...(times.length === 0 ? {} : { ...spreadOf(times), waitP95: percentile(waits, 0.95) }),
    }
  })
}

function adviceFor({ calls, faults, verdict = [] }: Lines): string[] {
  const failed = calls.filter(({ state }) => state === 'failed')
  const reasons = [...Map.groupBy(failed, ({ why = '' }) => why)].sort(([, a], [, b]) => b.length - a.length)
  const has = (metric: string) => verdict.some(({ ok, metric: name }) => !ok && name === metric)
  return [
    ...(calls.some(({ code }) => code === 'rate_limited per minute')
      ? [
          'The server refused calls by RATE_LIMIT_PER_MINUTE, so its capacity was not measured: start it with RATE_LIMIT_PER_MINUTE=0 for the test, or with a limit above the rate of the test.',
        ]
      : []),
    ...(calls.some(({ code }) => code === 'rate_limited')
      ? [
          'Some calls were refused because one caller may only fill half of the queue (queuePerCaller): all calls come with the same token. Capacity is not touched by it.',
        ]
      : []),
    ...(has('dropped_iterations')
      ? [
          'The load generator had no caller left for some calls: they wait longer than a server with a bounded queue would let them, or MAX_VUS is too small for this rate.',
        ]
      : []),
    ...reasons.slice(0, 5).map(([why, all]) => `${all.length} calls failed: ${why}`),
    ...[...new Set(faults)].slice(0, 3).map((fault) => `A picture was wrong: ${fault}`),
  ]
}

const spreadAs = <K extends string>(key: K, calls: readonly Call[], of: (call: Call) => number) =>
  (calls.length === 0 ? {} : { [key]: spreadOf(calls.map(of)) }) as { [key in K]?: Spread }

const spreadOf = (values: readonly number[]): Spread => ({
  p50: percentile(values, 0.5),
  p95: percentile(values, 0.95),
  p99: percentile(values, 0.99),
})

/** The least value that `share` of the values do not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN
}

const least = (values: readonly number[]) => values.reduce((a, b) => Math.min(a, b))
const most = (values: readonly number[]) => values.reduce((a, b) => Math.max(a, b))
