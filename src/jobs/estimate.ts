/**
 * How long a generation will take, learned from those that finished. A median over the last few forgets outliers;
 * sizes never seen before are scaled from the others by steps x pixels, which is what denoising costs.
 */

/** Samples kept per size: enough for a median that one outlier cannot move, few enough to follow a change. */
const WINDOW = 9
/** Below this many samples the first, cold, generation would decide: no estimate is better than that one. */
const MIN_SAMPLES = 2
/** Sizes remembered; the least recently seen goes first. */
const MAX_SIZES = 64

/** What decides how long a generation takes. */
export interface Work {
  readonly width?: number | undefined
  readonly height?: number | undefined
  readonly num_inference_steps?: number | undefined
}

export interface Estimator {
  /** A generation of this work took `ms` milliseconds of service. */
  observe(work: Work, ms: number): void
  /** Milliseconds of service that this work will take; undefined while too little is known. */
  estimate(work: Work): number | undefined
}

/** An estimator for one target. */
export function createEstimator(): Estimator {
  const sizes = new Map<string, { readonly units: number | undefined; readonly samples: number[] }>()
  const keyOf = ({ width, height, num_inference_steps }: Work) => `${width}x${height}x${num_inference_steps}`

  return {
    observe(work, ms) {
      const key = keyOf(work)
      const known = sizes.get(key) ?? { units: unitsOf(work), samples: [] }
      known.samples.push(ms)
      if (known.samples.length > WINDOW) known.samples.shift()
      sizes.delete(key)
      sizes.set(key, known)
      const oldest = sizes.keys().next().value
      if (sizes.size > MAX_SIZES && oldest !== undefined) sizes.delete(oldest)
    },

    estimate(work) {
      const own = sizes.get(keyOf(work))
      if (own && own.samples.length >= MIN_SAMPLES) return median(own.samples)
      const units = unitsOf(work)
      const all = [...sizes.values()]
      if (all.reduce((count, { samples }) => count + samples.length, 0) < MIN_SAMPLES) return undefined
      const scaled = all.flatMap((size) =>
        size.samples.map((ms) =>
          units === undefined || size.units === undefined ? ms : (ms * units) / size.units,
        ),
      )
      return median(scaled)
    },
  }
}

/** Steps x pixels, where the request or the target's defaults say them. */
export function unitsOf({ width, height, num_inference_steps }: Work): number | undefined {
  if (width === undefined || height === undefined || num_inference_steps === undefined) return undefined
  return width * height * num_inference_steps
}

/** The lower median: with two samples the faster one, because the slower is likely to have been a cold start. */
function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[(sorted.length - 1) >> 1] as number
}
