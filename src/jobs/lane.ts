/** One target's slots, queue and figures. */
import type { Target } from '../runtimes/targets.ts'
import { createEstimator, unitsOf, type Work } from './estimate.ts'
import { createFairQueue } from './fair-queue.ts'
import type { JobState, Refusal, Spread, TargetQueue } from './job.ts'

/** Waits and service times kept for the figures. */
const RECENT = 200
/** With no finished generation for this long, an estimate that forbids everything is put to the test; milliseconds. */
const STALE_MS = 60_000

/** What a lane needs to know of a job. */
export interface LaneJob {
  readonly job: { readonly owner: string; readonly startedAt?: number }
  /** The target's defaults filled in. */
  readonly work: Work
}

export type Lane<J extends LaneJob> = ReturnType<typeof createLane<J>>

/** A lane with nothing in it. */
export function createLane<J extends LaneJob>(target: Target) {
  const queued = createFairQueue<J>()
  const running = new Set<J>()
  const releasing = new Set<J>()
  const estimator = createEstimator()
  const ended = { succeeded: 0, failed: 0, cancelled: 0, expired: 0 }
  const refused = { overloaded: 0, rate_limited: 0, deadline_exceeded: 0, conflict: 0 }
  const waits: number[] = []
  const services: number[] = []
  let admitted = 0
  let observedAt = Number.NEGATIVE_INFINITY

  /** What a job counts in fair order: 1 for the target's default picture, so that large ones use up more of a turn. */
  const unit = unitsOf(target.defaults) ?? DEFAULT_UNITS
  const costOf = (work: Work) => (unitsOf(work) ?? unit) / unit

  const remainingMs = (now: number) =>
    [...running].map(({ job, work }) =>
      Math.max(0, (estimator.estimate(work) ?? 0) - (now - (job.startedAt ?? now))),
    )

  return {
    target,
    queued,
    running,
    releasing,
    estimate: (work: Work) => estimator.estimate(work),
    busy: () => running.size + releasing.size,

    push(entry: J) {
      admitted += 1
      queued.push(entry, { caller: entry.job.owner, cost: costOf(entry.work) })
    },

    observe({ work, waitMs, serviceMs }: { work: Work; waitMs: number; serviceMs: number }) {
      estimator.observe(work, serviceMs)
      observedAt = Date.now()
      keep(waits, waitMs)
      keep(services, serviceMs)
    },
    countEnd(state: Exclude<JobState, 'queued' | 'running'>) {
      ended[state] += 1
    },
    countRefusal(reason: Refusal) {
      refused[reason] += 1
    },

    /** The predictions that admission needs for one more job of this caller; see AdmissionView. */
    predict({ caller, work }: { caller: string; work: Work }) {
      const now = Date.now()
      const ownMs = estimator.estimate(work)
      if (ownMs === undefined)
        return { ownMs, aheadMs: undefined, nextSlotMs: undefined, ownTurnMs: undefined, stale: true }
      const perUnit = ownMs / costOf(work)
      const remaining = remainingMs(now)
      const runningMs = remaining.reduce((sum, ms) => sum + ms, 0)
      return {
        ownMs,
        aheadMs: runningMs + queued.costAhead(caller) * perUnit,
        nextSlotMs: remaining.length > 0 ? Math.min(...remaining) : ownMs,
        ownTurnMs: (runningMs + queued.costBefore(caller) * perUnit) / target.concurrency,
        stale: now - observedAt > STALE_MS,
      }
    },

    /** Every waiting job with its place (1 is next) and when it should be finished. */
    outlook(): readonly { entry: J; position: number; expectedAt: number | undefined }[] {
      const now = Date.now()
      let aheadMs = remainingMs(now).reduce((sum, ms) => sum + ms, 0)
      return queued.inOrder().map((entry, index) => {
        const ownMs = estimator.estimate(entry.work)
        const expectedAt =
          ownMs === undefined ? undefined : Math.round(now + aheadMs / target.concurrency + ownMs)
        aheadMs += ownMs ?? 0
        return { entry, position: index + 1, expectedAt }
      })
    },

    report(): TargetQueue {
      const estimate = estimator.estimate(target.defaults)
      return {
        target: target.name,
        concurrency: target.concurrency,
        queue_limit: target.queue,
        queued: queued.size,
        running: running.size,
        releasing: releasing.size,
        admitted,
        ended: { ...ended },
        refused: { ...refused },
        ...(estimate === undefined ? {} : { estimate_ms: Math.round(estimate) }),
        ...(services.length === 0 ? {} : { wait_ms: spread(waits), service_ms: spread(services) }),
      }
    },
  }
}

/** 25 steps at 512x512, where neither the request nor the target says what is usual. */
const DEFAULT_UNITS = 512 * 512 * 25

function keep(values: number[], value: number): void {
  values.push(value)
  if (values.length > RECENT) values.shift()
}

function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number) => Math.round(sorted[Math.ceil(share * sorted.length) - 1] as number)
  return { p50: at(0.5), p95: at(0.95) }
}
