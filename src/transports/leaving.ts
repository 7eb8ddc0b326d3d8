/** Tells a client that left before it had its answer from every other end of a call. */
import type { Context } from 'hono'
import { type AppError, clientLeft } from '../errors.ts'
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

/** What the servers of the engines pass to the app beside a request. */
interface EngineBindings {
  /** Node: the answer. */
  readonly outgoing?: {
    readonly closed: boolean
    readonly writableFinished: boolean
    once(event: 'close', listener: () => void): void
  }
  /** Deno: resolves when nothing more can be sent. */
  readonly completed?: Promise<void>
}

/**
 * Calls `ended` once the answer is sent, or will never be because the connection closed. Calls it at once where no
 * connection is known. Deno does not tell whether a body that is no stream arrived, so such an answer counts as sent.
 */
export function onAnswerEnd(c: Context<AppEnv>, ended: (isComplete: boolean) => void): void {
  const { outgoing, completed } = (c.env ?? {}) as EngineBindings
  if (outgoing?.closed) ended(outgoing.writableFinished)
  else if (outgoing) outgoing.once('close', () => ended(outgoing.writableFinished))
  else if (completed) {
    let isComplete = true
    // Only a stream's body is touched: the engine sends other bodies faster while nobody does.
    if (c.res.headers.get('content-type')?.startsWith('text/event-stream') && c.res.body) {
      const body = whenCancelled(c.res.body, () => {
        isComplete = false
      })
      c.res = new Response(body, c.res)
    }
    void completed.catch(() => {}).then(() => ended(isComplete && !c.req.raw.signal.aborted))
  } else ended(true)
}

/** The same stream, which tells when its reader gives up. */
function whenCancelled(
  stream: ReadableStream<Uint8Array>,
  cancelled: () => void,
): ReadableStream<Uint8Array> {
  const reader = stream.getReader()
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await reader.read()
      if (done) controller.close()
      else controller.enqueue(value)
    },
    cancel(reason) {
      cancelled()
      return reader.cancel(reason)
    },
  })
}
