/** A job is one generation; this is what the rest of the server sees of it. */
import type { Identity } from '../auth/caller.ts'
import type { PublicError } from '../errors.ts'
import type { ImageRecord, ImageStore } from '../images/image.ts'
import type { ReplicaReport } from '../runtimes/pool/pool.ts'
import type { GenerationRequest, ImageRequest } from '../runtimes/request.ts'
import type { StepProgress } from '../runtimes/runtime.ts'
import type { Target } from '../runtimes/targets.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'

export type JobState = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'expired'

/**
 * An immutable snapshot. Times are milliseconds since 1970, all by one clock: only their differences are exact when the
 * clock of the machine is set while the job lives.
 */
export interface Job {
  readonly id: string
  /** Fixed when the job is made, so that a job that has to run twice makes one picture. */
  readonly imageId: string
  /** `Caller.id` of who asked. */
  readonly owner: string
  readonly target: string
  readonly request: GenerationRequest
  readonly state: JobState
  readonly createdAt: number
  readonly startedAt?: number
  readonly endedAt?: number
  /** When the picture stops being worth making. */
  readonly deadlineAt: number
  /** While queued: 1 means next. */
  readonly position?: number
  /** While queued, where the target scales from zero and no replica is ready yet. */
  readonly starting?: true | undefined
  /**
   * While queued or running, once enough is known: when the picture should be there. By `performance.now()` of this
   * process, because callers are told how long that will be.
   */
  readonly expectedAt?: number
  /** While running, as soon as the runtime reported a step. */
  readonly progress?: StepProgress
  /** Once succeeded. */
  readonly image?: ImageRecord
  /** Once failed, cancelled or expired. */
  readonly error?: PublicError
}

const ENDED: ReadonlySet<JobState> = new Set(['succeeded', 'failed', 'cancelled', 'expired'])

/** True in the states that a job never leaves. */
export function hasEnded(job: Pick<Job, 'state'>): boolean {
  return ENDED.has(job.state)
}

export interface SubmitOptions {
  /** Milliseconds from now; absent: the server's default. */
  readonly deadlineMs?: number
  /**
   * A retry under the same key of the same caller joins the job that it is a retry of. Without effect for anonymous
   * callers, who cannot be told apart.
   */
  readonly idempotencyKey?: string
  /** Goes along to the runtime's log. */
  readonly requestId?: string
}

/** Somebody who waits for a job now. */
export interface Waiter {
  readonly job: Job
  /** True where the job was there already: a retry, an identical request, an adoption. */
  readonly joined: boolean
  /**
   * The job's snapshots: the current one at once, then the latest after every change, ending with the first that
   * has ended. A slow reader misses snapshots in between, never the last. Ends early when the signal aborts.
   */
  watch(signal?: AbortSignal): AsyncIterable<Job>
  /** The job's handle was given out: the job then ends by finishing, explicit cancel or deadline alone. */
  detach(): Promise<void>
  /**
   * Nobody waits through this waiter any more. A job that lost its last waiter without having handed out a handle is
   * an orphan: for the grace an identical request of the same caller adopts it, then it is cancelled.
   */
  leave(): Promise<void>
}

/** Why a generation was refused at admission. */
export type Refusal = 'overloaded' | 'rate_limited' | 'deadline_exceeded' | 'conflict'

/** What a target does now, and what it did since the start. `admitted` is the sum of all states. */
export interface TargetQueue {
  readonly target: string
  /** Generations at once, as things are; 0 where no replica is ready. */
  readonly concurrency: number
  readonly queue_limit: number
  readonly queued: number
  readonly running: number
  /** Slots of jobs that have ended while the runtime has not let go yet. */
  readonly releasing: number
  readonly admitted: number
  readonly ended: Readonly<Record<Exclude<JobState, 'queued' | 'running'>, number>>
  readonly refused: Readonly<Record<Refusal, number>>
  /** Service time of a request with the target's defaults, in milliseconds; absent until enough is known. */
  readonly estimate_ms?: number
  /** Of the last succeeded jobs, in milliseconds; absent until there is one. */
  readonly wait_ms?: Spread
  readonly service_ms?: Spread
  /** Where replicas come and go: each one, as this server sees it. */
  readonly replicas?: readonly ReplicaReport[]
}

export interface Spread {
  readonly p50: number
  readonly p95: number
}

/** What every backend is made of. */
export interface JobsOptions {
  /** The first one is the default. */
  readonly targets: readonly Target[]
  readonly images: ImageStore
  /** Default deadline of a job, in milliseconds. */
  readonly deadlineMs: number
  /** How long an orphan may be adopted, in milliseconds. */
  readonly orphanGraceMs: number
  /** How long a picture and its job are kept, in seconds. */
  readonly ttlSeconds: number
  readonly log: Logger
  readonly metrics: Metrics
}

/** The only way to a GPU, whatever keeps the jobs. */
export interface Jobs {
  /**
   * Admits a generation or refuses it at once; a retry of accepted work joins it before any limit is looked at. The
   * caller waits for it until it leaves the returned waiter.
   * @throws AppError `invalid_request` (unknown model), `conflict` (the key belongs to another request),
   * `overloaded` (queue full, too late because of the queue, or shutting down), `runtime_unavailable` (no replica is
   * ready), `rate_limited` (too many of this caller wait), `deadline_exceeded` (the generation alone takes longer); all
   * but the first two and the last with Retry-After.
   */
  submit(request: ImageRequest, caller: Identity, options?: SubmitOptions): Promise<Waiter>
  /** The caller's job. @throws AppError `not_found`, also for another caller's job. */
  get(id: string, caller: Identity): Promise<Job>
  /** Snapshots as `Waiter.watch`, without becoming a waiter. @throws AppError `not_found` at the first step. */
  watch(id: string, caller: Identity, signal?: AbortSignal): AsyncIterable<Job>
  /**
   * Cancels for everybody, down to the runtime; a job that has ended stays as it is.
   * @returns the job, ended. @throws AppError `not_found`.
   */
  cancel(id: string, caller: Identity): Promise<Job>
  /** Queue, concurrency and figures per target. */
  queue(): readonly TargetQueue[]
  /** Resolves while work can be taken. @throws AppError `overloaded` that says why not. */
  check(): Promise<void>
  /** True while another server goes on with what this one leaves. */
  othersServe(): Promise<boolean>
  /** True while this server cannot reach the jobs, which another one may. */
  isCutOff(): boolean
  /**
   * Shutdown: finishes what was accepted within `timeoutMs` milliseconds. Where other servers go on, they get what is
   * left and what still comes, and those who wait here get handles; a server that is alone refuses new work, and what
   * is left in its memory fails. A watch by id goes on until the end.
   */
  drain(options: { timeoutMs: number }): Promise<void>
  /** Closes connections, after `drain`. */
  close(): Promise<void>
}
