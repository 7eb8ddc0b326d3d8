/** What a target's finished generations teach: how long one takes, and how long the last ones waited. */
import type { Target } from '../runtimes/targets.ts'
import { createEstimator, magnitudeOf, unitsOf, type Work } from './estimate.ts'
import type { Spread } from './job.ts'
import { createStalls } from './stall.ts'

/** Waits and service times kept for the figures. */
const RECENT = 200
/**
 * An estimate is put to the test when nothing of its size finished, and no test began, for this long in milliseconds, or
 * for this many times what it says: tests of large pictures shall not fill the target.
 */
const STALE_MS = 60_000
const STALE_TIMES = 10
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
  /** `Caller.id` of who asked: no caller's samples push out those of all others. */
  readonly caller: string
  readonly waitMs: number
  readonly serviceMs: number
}

/** What admission has to know of a generation; see AdmissionView. */
export interface Forecast {
  readonly ownMs?: number
  readonly measured: boolean
  readonly stale: boolean
}

/** How long work ahead takes: a fixed part for each job, and a part by cost. */
export interface WorkModel {
  readonly fixedMs: number
  /** For each of the costs of `costOf`. */
  readonly unitMs: number
  /** Cost per job up to which this may be trusted. */
  readonly reach: number
}

export type Figures = ReturnType<typeof createFigures>

/** Figures of one target, with nothing learned yet. */
export function createFigures(target: Pick<Target, 'defaults'>) {
  const estimator = createEstimator()
  const waits: number[] = []
  const services: number[] = []
  /** When a test of an estimate began, by the magnitude of its work. */
  const testedAt = new Map<number | undefined, number>()
  const unit = unitsOf(target.defaults) ?? DEFAULT_UNITS

  const estimate = (work: Work) => estimator.predict(work)?.ms

  return {
    observe({ work, caller, waitMs, serviceMs }: Sample): void {
      estimator.observe({ work, caller, ms: serviceMs })
      keep(waits, waitMs)
      keep(services, serviceMs)
    },
    /** Milliseconds of service that this work will take; undefined while too little is known. */
    estimate,
    /** Finds runs that hang. */
    stalls: createStalls(),
    forecast(work: Work): Forecast {
      const prediction = estimator.predict(work)
      if (!prediction) return { measured: false, stale: true }
      const { ms: ownMs, measured, seenAt } = prediction
      const since = Math.max(seenAt, testedAt.get(magnitudeOf(work)) ?? Number.NEGATIVE_INFINITY)
      const stale = performance.now() - since > Math.max(STALE_MS, STALE_TIMES * ownMs)
      return { ownMs, measured, stale }
    },
    /** A generation of this work was admitted that its estimate forbids. */
    tested: (work: Work) => void testedAt.set(magnitudeOf(work), performance.now()),
    /** How long the work of others takes; undefined while too little is known. */
    workModel(): WorkModel | undefined {
      const line = estimator.line()
      if (line) return { fixedMs: line.fixedMs, unitMs: line.unitMs * unit, reach: line.reach / unit }
      const usual = estimate(target.defaults)
      return usual === undefined ? undefined : { fixedMs: usual, unitMs: 0, reach: Number.MAX_VALUE }
    },
    /** What a job counts in fair order: 1 for the target's default picture; large ones use up more of a turn. */
    costOf: (work: Work) => Math.max(1, Math.round((unitsOf(work) ?? unit) / unit / COST_STEP)) * COST_STEP,
    report() {
      const usual = estimate(target.defaults)
      return {
        ...(usual === undefined ? {} : { estimate_ms: Math.round(usual) }),
        ...(services.length === 0 ? {} : { wait_ms: spread(waits), service_ms: spread(services) }),
      }
    },
  }
}

/** Milliseconds of work ahead; undefined while too little is known of jobs like these. Lua: `aheadOf` (admission.lua). */
export function aheadOf(model: WorkModel | undefined, ahead: { count: number; cost: number }) {
  if (!model || ahead.cost > ahead.count * model.reach) return undefined
  return ahead.count * model.fixedMs + ahead.cost * model.unitMs
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
