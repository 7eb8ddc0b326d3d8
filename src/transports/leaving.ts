/** Tells a client that left before it had its answer from every other end of a call. */
import type { Context } from 'hono'
import { type AppError, clientLeft } from '../errors.ts'
import type { OnSent } from '../images/outgoing.ts'
import type { AppEnv } from './context.ts'

/** Says why connections end: by their clients, unless this server is `stopping`. That signal's reason is an AppError. */
export function reasonOfClosing(stopping: AbortSignal): () => AppError {
  return () => (stopping.aborted ? (stopping.reason as AppError) : clientLeft())
}

/**
 * Aborts when the connection closes before the answer is complete. Its reason is an AppError: `client_left`, unless the
 * server itself closed the connection. The engines' own signals do not say who closed it, and Node's has a string.
 */
export function clientSignal(c: Context<AppEnv>): AbortSignal {
  const known = c.get('clientSignal')
  if (known) return known
  const engine = c.req.raw.signal
  const closed = new AbortController()
  const abort = () => closed.abort(c.var.reasonOfClosing())
  if (engine.aborted) abort()
  else engine.addEventListener('abort', abort, { once: true })
  c.set('clientSignal', closed.signal)
  return closed.signal
}

/** What the listener passes to the app beside a request. */
interface ListenerBindings {
  readonly outgoing?: {
    /** True from the event `close` on; Deno has no `closed`. */
    readonly destroyed: boolean
    readonly writableFinished: boolean
    once(event: 'close', listener: () => void): void
  }
}

/**
 * Calls `ended` once the answer is sent, or will never be because the connection closed. Calls it at once where no
 * connection is known.
 */
export function onAnswerEnd(c: Context<AppEnv>, ended: (isComplete: boolean) => void): void {
  const { outgoing } = (c.env ?? {}) as ListenerBindings
  if (!outgoing) ended(true)
  else if (outgoing.destroyed) ended(outgoing.writableFinished)
  else outgoing.once('close', () => ended(outgoing.writableFinished))
}

/** Calls `done` once the answer is sent, or will never be. */
export const onSent =
  (c: Context<AppEnv>): OnSent =>
  (done) =>
    onAnswerEnd(c, done)
