/** A job in this process's memory, with what its run and its waiters need. */

import { keptOf } from '../ended.ts'
import type { Work } from '../estimate.ts'
import type { Job } from '../job.ts'
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
  /** Hashes under which other submissions find this job: its request, and its idempotency keys. */
  request: string
  keys: string[]
  /** Of a request that names its seed. */
  readonly seeded: boolean
  requestId: string | undefined
  /** While it runs. */
  abort: AbortController | undefined
  /** Who waits for it: a number, and what to call after a change. */
  waiters: number
  listeners: Set<() => void> | undefined
  deadline: NodeJS.Timeout | undefined
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
  for (const listener of entry.listeners ?? []) listener()
}

/** Nothing is kept of a job that ended but what is asked for after that. */
export function shrink(entry: Entry): void {
  entry.job = keptOf(entry.job)
  entry.requestId = undefined
  entry.abort = undefined
  clearTimeout(entry.deadline)
  entry.deadline = undefined
}
