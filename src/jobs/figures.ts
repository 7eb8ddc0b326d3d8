/** What a target's finished generations teach: how long one takes, and how long the last ones waited. */
import type { Target } from '../runtimes/targets.ts'
import { createEstimator, unitsOf, type Work } from './estimate.ts'
import type { Spread } from './job.ts'

/** Waits and service times kept for the figures. */
const RECENT = 200
/** With no finished generation for this long, an estimate that forbids everything is put to the test; milliseconds. */
const STALE_MS = 60_000
/** 25 steps at 512x512, where neither the request nor the target says what is usual. */
const DEFAULT_UNITS = 512 * 512 * 25

/**
 * Costs are multiples of this, at least one: sums of them are exact in any order, so that fair order is the same
 * wherever and however it is computed.
 */
const COST_STEP = 1 / 1024

/** A generation that finished. Milliseconds. */
export interface Sample {
  readonly work: Work
  readonly waitMs: number
  readonly serviceMs: number
}

export type Figures = ReturnType<typeof createFigures>

/** Figures of one target, with nothing learned yet. */
export function createFigures(target: Pick<Target, 'defaults'>) {
  const estimator = createEstimator()
  const waits: number[] = []
  const services: number[] = []
  let observedAt = Number.NEGATIVE_INFINITY
  const unit = unitsOf(target.defaults) ?? DEFAULT_UNITS

  return {
    observe({ work, waitMs, serviceMs }: Sample): void {
      estimator.observe(work, serviceMs)
      observedAt = performance.now()
      keep(waits, waitMs)
      keep(services, serviceMs)
    },
    /** Milliseconds of service that this work will take; undefined while too little is known. */
    estimate: (work: Work) => estimator.estimate(work),
    /** What a job counts in fair order: 1 for the target's default picture; large ones use up more of a turn. */
    costOf: (work: Work) => Math.max(1, Math.round((unitsOf(work) ?? unit) / unit / COST_STEP)) * COST_STEP,
    /** True when so little happened lately that the estimate must be put to the test. */
    stale: () => performance.now() - observedAt > STALE_MS,
    report() {
      const estimate = estimator.estimate(target.defaults)
      return {
        ...(estimate === undefined ? {} : { estimate_ms: Math.round(estimate) }),
        ...(services.length === 0 ? {} : { wait_ms: spread(waits), service_ms: spread(services) }),
      }
    },
  }
}

function keep(values: number[], value: number): void {
  values.push(value)
  if (values.length > RECENT) values.shift()
}

function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number) => Math.round(sorted[Math.ceil(share * sorted.length) - 1] as number)
  return { p50: at(0.5), p95: at(0.95) }
}
