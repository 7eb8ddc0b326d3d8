/** One target's slots, queue and figures. */
import type { Target } from '../../runtimes/targets.ts'
import type { Work } from '../estimate.ts'
import { createFigures } from '../figures.ts'
import type { JobState, Refusal, TargetQueue } from '../job.ts'
import { createFairQueue } from './fair-queue.ts'

/** What a lane needs to know of a job. */
export interface LaneJob {
  readonly job: { readonly owner: string }
  /** `performance.now()` when its run began. */
  readonly runningSince?: number
  /** The target's defaults filled in. */
  readonly work: Work
}

export type Lane<J extends LaneJob> = ReturnType<typeof createLane<J>>

/** A lane with nothing in it. */
export function createLane<J extends LaneJob>(target: Target) {
  const queued = createFairQueue<J>()
  const running = new Set<J>()
  const releasing = new Set<J>()
  const figures = createFigures(target)
  const ended = { succeeded: 0, failed: 0, cancelled: 0, expired: 0 }
  const refused = { overloaded: 0, rate_limited: 0, deadline_exceeded: 0, conflict: 0 }
  let admitted = 0

  const remainingMs = (now: number) =>
    [...running].map(({ runningSince = now, work }) =>
      Math.max(0, (figures.estimate(work) ?? 0) - (now - runningSince)),
    )

  return {
    target,
    queued,
    running,
    releasing,
    estimate: figures.estimate,
    busy: () => running.size + releasing.size,

    push(entry: J) {
      admitted += 1
      queued.push(entry, { caller: entry.job.owner, cost: figures.costOf(entry.work) })
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
      const ownMs = figures.estimate(work)
      if (ownMs === undefined) return { stale: true }
      const perUnit = ownMs / figures.costOf(work)
      const remaining = remainingMs(now)
      const runningMs = remaining.reduce((sum, ms) => sum + ms, 0)
      return {
        ownMs,
        aheadMs: runningMs + queued.costAhead(caller) * perUnit,
        nextSlotMs: remaining.length > 0 ? Math.min(...remaining) : ownMs,
        ownTurnMs: (runningMs + queued.costBefore(caller) * perUnit) / target.concurrency,
        stale: figures.stale(),
      }
    },

    /** Every waiting job with its place (1 is next) and when it should be finished. */
    outlook(): readonly { entry: J; position: number; expectedAt: number | undefined }[] {
      const now = performance.now()
      let aheadMs = remainingMs(now).reduce((sum, ms) => sum + ms, 0)
      return queued.inOrder().map((entry, index) => {
        const ownMs = figures.estimate(entry.work)
        const expectedAt = ownMs === undefined ? undefined : now + aheadMs / target.concurrency + ownMs
        aheadMs += ownMs ?? 0
        return { entry, position: index + 1, expectedAt }
      })
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
