/** Whether a generation may wait for its turn, decided at once from what is known. */
import { AppError } from '../errors.ts'
import type { Refusal } from './job.ts'

/** What admission looks at. Milliseconds where not said otherwise. */
export interface AdmissionView {
  /** Generations at once, as things are; 0 where no replica is ready. */
  readonly concurrency: number
  /** Slots taken now. */
  readonly busy: number
  readonly queued: number
  readonly queueLimit: number
  /** Jobs of this caller that wait. */
  readonly queuedOfCaller: number
  readonly queueLimitOfCaller: number
  /** Until the picture is of no use. */
  readonly deadlineMs: number
  /** The generation itself; absent while too little is known. */
  readonly ownMs?: number
  /** True where `ownMs` is what generations of this very size took; false where it follows from other sizes. */
  readonly measured: boolean
  /** Work that runs now or goes first in fair order; absent while too little is known. */
  readonly aheadMs?: number
  /** Until the next slot frees; absent as `ownMs`. */
  readonly nextSlotMs?: number
  /** Until the first waiting job of this caller starts; absent as `ownMs`. */
  readonly ownTurnMs?: number
  /** True when nothing of this size finished lately, so that a refusal by the estimate must be put to the test. */
  readonly stale: boolean
}

/** Why a generation is refused, and the code under which it is answered and counted. */
export const REFUSED_AS = {
  /** The queue is full. */
  full: 'overloaded',
  /** The caller's share of the queue is full. */
  callerFull: 'rate_limited',
  /** The generation alone takes longer than the deadline. */
  tooLong: 'deadline_exceeded',
  /** With what goes first it would be ready after the deadline. */
  tooLate: 'overloaded',
} as const satisfies Record<string, Refusal>

export type RefusedBecause = keyof typeof REFUSED_AS

/** Retry-After while no service time is known, in milliseconds. */
const UNKNOWN_MS = 1000

/** Why this generation may not wait; undefined where it may. The book in Valkey has the same rule (admission.lua). */
export function judge(view: AdmissionView): RefusedBecause | undefined {
  const { deadlineMs, ownMs, aheadMs } = view
  const mustWait = view.busy >= view.concurrency || view.queued > 0
  const concurrency = atLeastOne(view)
  if (mustWait && view.queued >= view.queueLimit) return 'full'
  if (mustWait && view.queuedOfCaller >= view.queueLimitOfCaller) return 'callerFull'
  if (ownMs === undefined) return undefined
  // An idle target loses nothing by a picture of a size that was not measured. Where there is no other evidence, one is
  // let through now and then, so that no wrong estimate stays.
  if (ownMs > deadlineMs && !(view.stale || (!view.measured && !mustWait))) return 'tooLong'
  const needsMs = isTest(view) ? 0 : ownMs
  if (mustWait && aheadMs !== undefined && aheadMs / concurrency + needsMs > deadlineMs) return 'tooLate'
  return undefined
}

/** Where no replica is ready, one has to be before anything is made. */
const atLeastOne = ({ concurrency }: Pick<AdmissionView, 'concurrency'>) => Math.max(1, concurrency)

/** True where a generation that is admitted puts its estimate to the test. */
export function isTest({ ownMs, deadlineMs }: Pick<AdmissionView, 'ownMs' | 'deadlineMs'>): boolean {
  return ownMs !== undefined && ownMs > deadlineMs
}

/** The refusal as the caller reads it, with the time after which a retry makes sense. */
export function refusal(options: {
  readonly target: string
  readonly because: RefusedBecause
  readonly view: AdmissionView
}): AppError {
  const { target, because, view } = options
  const { deadlineMs, ownMs = 0, aheadMs = 0 } = view
  const code = REFUSED_AS[because]
  switch (because) {
    case 'full':
      return new AppError(
        code,
        `${target} is busy: ${view.busy} running and ${view.queued} waiting, which is all that may wait. Try again later.`,
        after(view.nextSlotMs),
      )
    case 'callerFull':
      return new AppError(
        code,
        `${view.queuedOfCaller} of your pictures wait for ${target} already, which is all that one caller may have waiting. Try again later.`,
        after(view.ownTurnMs),
      )
    case 'tooLong':
      return new AppError(
        code,
        `A picture like this takes ${target} about ${seconds(ownMs)}, longer than the ${seconds(deadlineMs)} you allow. Allow more time, or ask for fewer steps or a smaller size.`,
      )
    case 'tooLate': {
      const finishMs = aheadMs / atLeastOne(view) + ownMs
      return new AppError(
        code,
        `With ${view.queued} waiting, the picture would be ready in about ${seconds(finishMs)}, later than the ${seconds(deadlineMs)} you allow. Try again later, or allow more time.`,
        after(finishMs - deadlineMs),
      )
    }
  }
}

const after = (ms: number | undefined) => ({ retryAfterSeconds: (ms ?? UNKNOWN_MS) / 1000 })
const seconds = (ms: number) => (ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`)
