/** Whether a generation may wait for its turn, decided at once from what is known. */
import { AppError } from '../errors.ts'

/** What admission looks at. Milliseconds where not said otherwise. */
export interface AdmissionView {
  readonly target: string
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
  /** The generation itself; undefined while too little is known. */
  readonly ownMs: number | undefined
  /** Work that runs now or would go first in fair order; undefined as `ownMs`. */
  readonly aheadMs: number | undefined
  /** Until the next slot frees; undefined as `ownMs`. */
  readonly nextSlotMs: number | undefined
  /** Until the first waiting job of this caller starts; undefined as `ownMs`. */
  readonly ownTurnMs: number | undefined
  /** True when so little happened lately that the estimate must be put to the test. */
  readonly stale: boolean
}

/** Retry-After while no service time is known, in milliseconds. */
const UNKNOWN_MS = 1000

/**
 * Admits by returning quietly.
 * @throws AppError `overloaded`, `rate_limited` or `deadline_exceeded`, with the time after which a retry makes sense.
 */
export function admit(view: AdmissionView): void {
  const { target, deadlineMs, ownMs, aheadMs } = view
  const mustWait = view.busy >= view.concurrency || view.queued > 0
  if (mustWait && view.queued >= view.queueLimit)
    throw new AppError(
      'overloaded',
      `${target} is busy: ${view.busy} running and ${view.queued} waiting, which is all that may wait. Try again later.`,
      after(view.nextSlotMs),
    )
  if (mustWait && view.queuedOfCaller >= view.queueLimitOfCaller)
    throw new AppError(
      'rate_limited',
      `${view.queuedOfCaller} of your pictures wait for ${target} already, which is all that one caller may have waiting. Try again later.`,
      after(view.ownTurnMs),
    )
  if (ownMs === undefined || aheadMs === undefined) return
  if (ownMs > deadlineMs && !(view.stale && !mustWait))
    throw new AppError(
      'deadline_exceeded',
      `A picture like this takes ${target} about ${seconds(ownMs)}, longer than the ${seconds(deadlineMs)} you allow. Allow more time, or ask for fewer steps or a smaller size.`,
    )
  const finishMs = aheadMs / view.concurrency + ownMs
  if (mustWait && finishMs > deadlineMs)
    throw new AppError(
      'overloaded',
      `With ${view.queued} waiting, the picture would be ready in about ${seconds(finishMs)}, later than the ${seconds(deadlineMs)} you allow. Try again later, or allow more time.`,
      after(finishMs - deadlineMs),
    )
}

const after = (ms: number | undefined) => ({ retryAfterSeconds: (ms ?? UNKNOWN_MS) / 1000 })
const seconds = (ms: number) => (ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`)
