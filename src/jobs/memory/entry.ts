/** A job in this process's memory, with what its run and its waiters need. */
import type { Work } from '../estimate.ts'
import type { Job, Waiter } from '../job.ts'
import type { LifeState } from '../lifecycle.ts'
import type { Lane } from './lane.ts'

export interface Entry {
  job: Job
  /** `performance.now()` when the job was made; see `timeOf`. */
  readonly since: number
  /** `performance.now()` when its run began, and when its deadline passes. */
  runningSince?: number
  deadlineBy: number
  /** Times that it was begun. */
  runs: number
  life: LifeState
  readonly lane: Lane<Entry>
  readonly work: Work
  /** Under what other submissions find this job: its request, and its idempotency keys. */
  readonly request: string
  readonly keys: Set<string>
  readonly requestId: string | undefined
  readonly abort: AbortController
  readonly waiters: Set<Waiter>
  readonly listeners: Set<() => void>
  deadline: NodeJS.Timeout
  grace: NodeJS.Timeout | undefined
}

/**
 * The time by the job's own clock: the wall clock when the job was made, and monotonic from then on. So the times that
 * others see fit each other, also when the wall clock is set meanwhile.
 */
export function timeOf({ job, since }: Pick<Entry, 'job' | 'since'>): number {
  return job.createdAt + Math.round(performance.now() - since)
}

/** The job as it is now. A waiting job's place is looked up, because it moves without the job. */
export function currentOf(entry: Entry): Job {
  const place = entry.job.state === 'queued' ? entry.lane.placeOf(entry) : undefined
  return place ? { ...entry.job, ...place } : entry.job
}

/** Changes the job and tells those who watch it. */
export function change(entry: Entry, patch: Partial<Job>): void {
  entry.job = { ...entry.job, ...patch }
  for (const listener of entry.listeners) listener()
}
