/** The running jobs of a lane, with when they should be finished, as the book in Valkey keeps them. */
import { createRanked } from './ranked.ts'

/** Nothing runs. Times are by `performance.now()`; nothing costs more than O(log n), with n running jobs. */
export function createRunning<J>() {
  const jobs = new Map<J, { endsAt: number; id: number }>()
  const ends = createRanked<number>()
  let begun = 0

  function end(job: J): boolean {
    const run = jobs.get(job)
    if (!run) return false
    jobs.delete(job)
    ends.remove(run.endsAt, run.id)
    return true
  }

  return {
    jobs: jobs as ReadonlyMap<J, unknown>,
    /** A job runs, or begins anew. */
    begin(job: J, endsAt: number): void {
      end(job)
      begun += 1
      jobs.set(job, { endsAt, id: begun })
      ends.add({ key: endsAt, tie: begun, cost: endsAt, item: endsAt })
    },
    /** False where it does not run. */
    end,
    /** Milliseconds of work that runs now; what should be finished already counts as nothing. */
    remainingMs(now: number): number {
      const overdue = ends.before(now)
      const { count, cost } = ends.total
      return cost - overdue.cost - (count - overdue.count) * now
    },
    /** When the first of them should be finished. */
    firstEnd: () => ends.first(),
  }
}
