/** One target's slots, queue and figures. */
import type { Target } from '../../runtimes/targets.ts'
import type { Work } from '../estimate.ts'
import { aheadOf, createFigures } from '../figures.ts'
import type { JobState, Refusal, TargetQueue } from '../job.ts'
import { createFairQueue } from './fair-queue.ts'
import { createGrants } from './grants.ts'
import { createRunning } from './running.ts'
import { createStart } from './start.ts'

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
  const running = createRunning<J>()
  const releasing = new Set<J>()
  /** Running jobs that go on on another replica, first in, first out: before everything that waits. */
  const again = new Set<J>()
  /** The replica of every run that the runtime has in hand. */
  const inHand = new Map<J, string>()
  const grants = createGrants(target.pool)
  const start = createStart(target.pool)
  const figures = createFigures(target)
  const counts = createCounts()

  /** Jobs that finish side by side. Where no replica is ready, one has to be first. */
  const sideBySide = () => Math.max(1, grants.capacity())

  const begin = (entry: J) => running.begin(entry, performance.now() + (figures.estimate(entry.work) ?? 0))

  const follow = () => start.follow({ waiting: queued.size + again.size, capacity: grants.capacity() })

  return {
    target,
    queued,
    running: running.jobs,
    figures,
    /** Jobs that have not ended, and slots that the runtime has not let go of. */
    unfinished: () => queued.size + running.jobs.size + releasing.size,
    /** Generations at once, as things are, and slots of them that are taken. */
    slots: () => ({ concurrency: grants.capacity(), busy: grants.busy() }),

    push(entry: J) {
      counts.admit()
      queued.push(entry, { caller: entry.job.owner, cost: figures.costOf(entry.work) })
      follow()
    },

    /** The replicas have changed. */
    refresh(): void {
      grants.refresh()
      follow()
    },

    /** Gives a free slot to the job that is next; undefined where there is no such slot or job. */
    next(): { entry: J; replica: string } | undefined {
      if (queued.size + again.size === 0) return undefined
      const replica = grants.take()
      if (replica === undefined) return undefined
      const [first] = again
      const entry = first ?? (queued.shift() as J)
      again.delete(entry)
      inHand.set(entry, replica)
      return { entry, replica }
    },
    /** A run begins. */
    begin,
    /** The job runs again as soon as there is a slot. */
    runAgain(entry: J): void {
      again.add(entry)
      begin(entry)
      follow()
    },
    /** The job has ended, and its slot is free when the runtime let go. */
    end(entry: J): void {
      if (running.end(entry) && !again.delete(entry)) releasing.add(entry)
    },
    /** The runtime let go of a run's slot. */
    release(entry: J): void {
      releasing.delete(entry)
      grants.give(inHand.get(entry) as string)
      inHand.delete(entry)
    },

    countEnd: counts.end,
    countRefusal: counts.refuse,

    /** The predictions that admission needs for one more job of this caller; see AdmissionView. */
    predict({ caller, work }: { caller: string; work: Work }) {
      const now = performance.now()
      const forecast = figures.forecast(work)
      if (forecast.ownMs === undefined) return forecast
      const nextEnd = running.firstEnd()
      const aheadMs = aheadOf(figures.workModel(), queued.beforeNew(caller))
      return {
        ...forecast,
        aheadMs:
          aheadMs === undefined ? undefined : running.remainingMs(now) + aheadMs + (start.leftMs() ?? 0),
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
        : (running.remainingMs(performance.now()) + aheadMs) / sideBySide()
    },

    /** A waiting job's place (1 is next) and when it should be finished; undefined where it does not wait. */
    placeOf(
      entry: J,
    ): { position: number; expectedAt: number | undefined; starting: true | undefined } | undefined {
      const before = queued.before(entry)
      if (!before) return undefined
      const now = performance.now()
      const [aheadMs, ownMs] = [aheadOf(figures.workModel(), before), figures.estimate(entry.work)]
      const startMs = start.leftMs()
      const isKnown = aheadMs !== undefined && ownMs !== undefined && startMs !== undefined
      return {
        position: before.count + 1,
        expectedAt: isKnown
          ? now + startMs + (running.remainingMs(now) + aheadMs) / sideBySide() + ownMs
          : undefined,
        starting: start.isGoing() || undefined,
      }
    },

    report(): TargetQueue {
      return {
        target: target.name,
        concurrency: grants.capacity(),
        queue_limit: target.queue,
        queued: queued.size,
        running: running.jobs.size,
        releasing: releasing.size,
        ...counts.report(),
        ...figures.report(),
        ...(target.pool.changes && { replicas: target.pool.report() }),
      }
    },
  }
}

/** What happened since the start. */
function createCounts() {
  const ended = { succeeded: 0, failed: 0, cancelled: 0, expired: 0 }
  const refused = { overloaded: 0, rate_limited: 0, deadline_exceeded: 0, conflict: 0 }
  let admitted = 0
  return {
    admit(): void {
      admitted += 1
    },
    end(state: Exclude<JobState, 'queued' | 'running'>): void {
      ended[state] += 1
    },
    refuse(reason: Refusal): void {
      refused[reason] += 1
    },
    report: () => ({ admitted, ended: { ...ended }, refused: { ...refused } }),
  }
}
