/**
 * How long a generation will take, learned from those that finished. A size that was seen takes what it took: a median,
 * which forgets outliers. Any other size takes a fixed part plus a part by steps x pixels (fit.ts), as long as a size
 * that is not too different was seen.
 *
 * Samples are remembered by magnitude, and no caller holds more than half of a magnitude where others have samples: many
 * tiny pictures say nothing about large ones, and nobody can push out what others taught.
 */
import { fitLine, type Line, type Point } from './fit.ts'

/** Samples of one size that count: enough for a median that one outlier cannot move, few enough to follow a change. */
const WINDOW = 9
/** Below this many samples the first, cold, generation would decide: no estimate is better than that one. */
const MIN_SAMPLES = 2
/** With fewer samples of a size than this, what the line says counts as one more. */
const SURE_SAMPLES = 5
/** Samples kept per magnitude, and how many of them one caller may hold where others have some. */
const KEPT = 24
const SHARE = KEPT / 2
/** A size that differs from all seen ones by more than this factor has no estimate. */
const REACH = 10

/** What decides how long a generation takes. */
export interface Work {
  readonly width?: number | undefined
  readonly height?: number | undefined
  readonly num_inference_steps?: number | undefined
}

export interface Observed {
  readonly work: Work
  /** Who asked for it. */
  readonly caller: string
  /** Milliseconds of service. */
  readonly ms: number
}

export interface Prediction {
  /** Milliseconds of service. */
  readonly ms: number
  /** True where this very size was seen; else it follows from others. */
  readonly measured: boolean
  /** When (`performance.now()`) this size was seen last, or where it is not measured its magnitude; -Infinity: never. */
  readonly seenAt: number
}

export interface Estimator {
  observe(observed: Observed): void
  /** What this work will take; undefined while too little is known. Nothing is computed here that samples alone decide. */
  predict(work: Work): Prediction | undefined
  /** Time as a line over steps x pixels, and up to which of them it may be trusted; undefined while too little is known. */
  line(): (Line & { readonly reach: number }) | undefined
}

interface Kept extends Point {
  readonly key: string
  readonly caller: string
  readonly at: number
}

interface Fitted {
  readonly line: Line
  /** Steps x pixels of all samples, least first. */
  readonly seen: readonly number[]
}

/** An estimator for one target. */
export function createEstimator(): Estimator {
  /** By magnitude; those of unknown size under `undefined`. */
  const samples = new Map<number | undefined, Kept[]>()
  /** From all samples; computed at the first question after a sample came. */
  let fitted: Fitted | undefined

  function learned(): Fitted | undefined {
    if (fitted) return fitted
    const groups = [...samples].flatMap(([magnitude, group]) => (magnitude === undefined ? [] : [group]))
    const points = groups.flat()
    if (points.length < MIN_SAMPLES) return undefined
    fitted = { line: fitLine(groups), seen: points.map(({ units }) => units).sort((a, b) => a - b) }
    return fitted
  }

  /** What the line says where it may be trusted. */
  function follow(units: number | undefined): number | undefined {
    const known = units === undefined ? undefined : learned()
    if (!known || units === undefined || !isNear(known.seen, units)) return undefined
    return known.line.fixedMs + known.line.unitMs * units
  }

  /** Where sizes are unknown: what any generation took. */
  function anyMs(of: readonly Kept[]): number | undefined {
    return of.length < MIN_SAMPLES ? undefined : median(of.map(({ ms }) => ms))
  }

  return {
    observe({ work, caller, ms }) {
      const units = unitsOf(work)
      const magnitude = magnitudeOf(work)
      const kept = samples.get(magnitude) ?? []
      samples.set(magnitude, kept)
      kept.push({ key: keyOf(work), caller, ms, units: units ?? 0, at: performance.now() })
      bound(kept)
      fitted = undefined
    },

    predict(work) {
      const units = unitsOf(work)
      const group = samples.get(magnitudeOf(work)) ?? []
      const key = keyOf(work)
      const own = group.filter((sample) => sample.key === key).slice(-WINDOW)
      const followed = follow(units)
      if (own.length >= MIN_SAMPLES) {
        const votes = own.map(({ ms }) => ms)
        if (own.length < SURE_SAMPLES && followed !== undefined) votes.push(followed)
        return { ms: median(votes), measured: true, seenAt: own.at(-1)?.at as number }
      }
      const ms =
        units === undefined
          ? anyMs([...samples.values()].flat())
          : (followed ?? (learned() ? undefined : anyMs(samples.get(undefined) ?? [])))
      return ms === undefined
        ? undefined
        : { ms, measured: false, seenAt: group.at(-1)?.at ?? Number.NEGATIVE_INFINITY }
    },

    line() {
      const known = learned()
      return known && { ...known.line, reach: (known.seen.at(-1) as number) * REACH }
    },
  }
}

/** Steps x pixels, where the request or the target's defaults say them. */
export function unitsOf({ width, height, num_inference_steps }: Work): number | undefined {
  if (width === undefined || height === undefined || num_inference_steps === undefined) return undefined
  return width * height * num_inference_steps
}

/** Works of one magnitude differ by less than a factor of two in steps x pixels; undefined: unknown. */
export function magnitudeOf(work: Work): number | undefined {
  const units = unitsOf(work)
  return units === undefined ? undefined : Math.floor(Math.log2(units))
}

const keyOf = ({ width, height, num_inference_steps }: Work) => `${width}x${height}x${num_inference_steps}`

/** Takes out one sample where there are too many, the oldest of whoever holds too many. */
function bound(kept: Kept[]): void {
  const counts = new Map<string, number>()
  for (const { caller } of kept) counts.set(caller, (counts.get(caller) ?? 0) + 1)
  const [[most, count]] = [...counts].sort(([, a], [, b]) => b - a) as [[string, number]]
  if (kept.length <= KEPT && (count <= SHARE || count === kept.length)) return
  kept.splice(
    kept.findIndex(({ caller }) => caller === most),
    1,
  )
}

/** Whether one of these is at most `REACH` times as much or as little. */
function isNear(sorted: readonly number[], units: number): boolean {
  let [low, high] = [0, sorted.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((sorted[middle] as number) < units) low = middle + 1
    else high = middle
  }
  const [below, above] = [sorted[low - 1], sorted[low]]
  return (below !== undefined && units <= below * REACH) || (above !== undefined && units >= above / REACH)
}

/** The lower median: with two samples the faster one, because the slower is likely to have been a cold start. */
function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[(sorted.length - 1) >> 1] as number
}
