/** A job in this process's memory, with what its run and its waiters need. */
import type { Work } from '../estimate.ts'
import type { Job, Waiter } from '../job.ts'
import type { LifeState } from '../lifecycle.ts'
import type { Lane } from './lane.ts'

export interface Entry {
  job: Job
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
