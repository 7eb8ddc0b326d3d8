/** One target's slots, queue and figures. */
import type { Target } from '../../runtimes/targets.ts'
import type { Work } from '../estimate.ts'
import { aheadOf, createFigures } from '../figures.ts'
import type { JobState, Refusal, TargetQueue } from '../job.ts'
import { createFairQueue } from './fair-queue.ts'
import { createRanked } from './ranked.ts'

/** What a lane needs to know of a job. */
export interface LaneJob {
  readonly job: { readonly owner: string }
  /** The target's defaults filled in. */
  readonly work: Work
}

export type Lane<J extends LaneJob> = ReturnType<typeof createLane<J>>

/** A lane with nothing in it. Nothing that happens to a job costs more than O(log n), with n jobs in the lane. */
export function createLane<J extends LaneJob>(target: Target) {
  const queued = createFairQueue<J>()
  /** The running jobs, with when they should be finished by `performance.now()`, as the book in Valkey keeps them. */
  const running = new Map<J, { endsAt: number; id: number }>()
  const ends = createRanked<number>()
  const releasing = new Set<J>()
  const figures = createFigures(target)
  const ended = { succeeded: 0, failed: 0, cancelled: 0, expired: 0 }
  const refused = { overloaded: 0, rate_limited: 0, deadline_exceeded: 0, conflict: 0 }
  let admitted = 0
  let begun = 0

  /** Milliseconds of work that runs now; what should be finished already counts as nothing. */
  function remainingMs(now: number): number {
    const overdue = ends.before(now)
    const { count, cost } = ends.total
    return cost - overdue.cost - (count - overdue.count) * now
  }

  return {
    target,
    queued,
    running: running as ReadonlyMap<J, unknown>,
    releasing,
    estimate: figures.estimate,
    busy: () => running.size + releasing.size,

    push(entry: J) {
      admitted += 1
      queued.push(entry, { caller: entry.job.owner, cost: figures.costOf(entry.work) })
    },

    begin(entry: J): void {
      const endsAt = performance.now() + (figures.estimate(entry.work) ?? 0)
      begun += 1
      running.set(entry, { endsAt, id: begun })
      ends.add({ key: endsAt, tie: begun, cost: endsAt, item: endsAt })
    },
    /** The job has ended, and its slot is free when the runtime let go. */
    end(entry: J): void {
      const run = running.get(entry)
      if (!run) return
      running.delete(entry)
      ends.remove(run.endsAt, run.id)
      releasing.add(entry)
    },

    observe: figures.observe,
    countEnd(state: Exclude<JobState, 'queued' | 'running'>) {
      ended[state] += 1
    },
    countRefusal(reason: Refusal) {
      refused[reason] += 1
    },

    /** The predictions that admission needs for one more job of this caller; see AdmissionView. */
    predict({ caller, work }: { caller: string; work: Work }) {
      const now = performance.now()
      const forecast = figures.forecast(work)
      if (forecast.ownMs === undefined) return forecast
      const nextEnd = ends.first()
      const aheadMs = aheadOf(figures.workModel(), queued.beforeNew(caller))
      return {
        ...forecast,
        aheadMs: aheadMs === undefined ? undefined : remainingMs(now) + aheadMs,
        nextSlotMs: nextEnd === undefined ? forecast.ownMs : Math.max(0, nextEnd - now),
      }
    },
    /** A job of this work was admitted that its estimate forbids. */
    tested: figures.tested,

    /** Until the first waiting job of this caller starts: only who is refused for having too many needs it. */
    ownTurnMs(caller: string): number | undefined {
      const aheadMs = aheadOf(figures.workModel(), queued.beforeFirst(caller))
      return aheadMs === undefined
        ? undefined
        : (remainingMs(performance.now()) + aheadMs) / target.concurrency
    },

    /** A waiting job's place (1 is next) and when it should be finished; undefined where it does not wait. */
    placeOf(entry: J): { position: number; expectedAt: number | undefined } | undefined {
      const before = queued.before(entry)
      if (!before) return undefined
      const now = performance.now()
      const [aheadMs, ownMs] = [aheadOf(figures.workModel(), before), figures.estimate(entry.work)]
      const isKnown = aheadMs !== undefined && ownMs !== undefined
      return {
        position: before.count + 1,
        expectedAt: isKnown ? now + (remainingMs(now) + aheadMs) / target.concurrency + ownMs : undefined,
      }
    },

    report(): TargetQueue {
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
        ...figures.report(),
      }
    },
  }
}
