/** The replicas of a target: which addresses draw its pictures, and which of them work. */
import type { AppError } from '../../errors.ts'
import type { Runtime } from '../runtime.ts'
import type { HealthState } from './health.ts'

/** One address of a target's runtime. */
export interface Replica {
  /** Its origin, such as http://10.0.0.3:8080; the same on every server. */
  readonly id: string
  /** Pictures that it draws at once. */
  readonly slots: number
}

/** How a run on a replica ended. */
export interface Outcome {
  /** Absent: the picture is there. */
  readonly error?: AppError
  /** True where the run made no step for too long. */
  readonly stuck?: boolean
}

/** What this server knows of a replica. */
export interface ReplicaReport {
  /** Its id. */
  readonly replica: string
  readonly slots: number
  readonly state: HealthState
  /** Pictures that this server has it draw now, and pictures that it made for this server. */
  readonly in_flight: number
  readonly made: number
  /** Times that this server ejected it. */
  readonly ejections: number
}

export interface Pool {
  /** What the target draws and how to ask for it; absent: unknown. */
  readonly description?: string
  /** Most slots of all replicas together; absent: no cap. */
  readonly cap?: number
  /** True for a target whose replicas come and go; false for one plain url, which is always there. */
  readonly changes: boolean
  /** Jobs wait where no replica is ready. */
  readonly scalesFromZero: boolean
  /** Replicas that can take work as this server sees it: found, and not ejected. */
  ready(): readonly Replica[]
  /** Calls back after `ready()` changed. Returns what ends that. */
  onChange(listener: () => void): () => void
  /** The client of a replica, also of one that left the pool while it still draws. */
  runtimeOf(id: string): Runtime
  /** What a run on a replica taught; ejects what does not work. True where the job should run again, on another replica. */
  learn(id: string, outcome: Outcome): boolean
  /** Why new work makes no sense now; undefined where it does, also while the first look at the replicas goes on. */
  trouble(): AppError | undefined
  /** Each replica of a pool that changes, as this server sees it. */
  report(): readonly ReplicaReport[]
  /** As Runtime.check: resolves when the target could take a request. */
  check(options: { signal: AbortSignal }): Promise<void>
  /** As Runtime.warmUp. */
  warmUp?(): Promise<void>
  close(): Promise<void>
}

/** Every server calls the one replica of a plain target alike, also where they reach it under different addresses. */
const ONLY = 'runtime'

/** The pool of a target with one runtime, which is always there and never another: whatever is wrong, callers are told. */
export function createPlainPool(runtime: Runtime, { slots }: { slots: number }): Pool {
  const replicas = [{ id: ONLY, slots }]
  return {
    description: runtime.description,
    changes: false,
    scalesFromZero: false,
    ready: () => replicas,
    onChange: () => () => {},
    runtimeOf: () => runtime,
    learn: () => false,
    trouble: () => undefined,
    report: () => [],
    check: (options) => runtime.check(options),
    ...(runtime.warmUp && { warmUp: () => runtime.warmUp?.() as Promise<void> }),
    close: () => runtime.close(),
  }
}
