/** A job's life as a stream of server-sent events. */
import type { Context } from 'hono'
import { toAppError } from '../../errors.ts'
import { hasEnded, type Job, type Waiter } from '../../jobs/job.ts'
import type { ImageAnswer } from '../../tools/image/image-answer.ts'
import { KEEP_ALIVE_MS } from '../mcp.ts'

const HEADERS = {
  'Content-Type': 'text/event-stream',
  'Cache-Control': 'no-cache',
  Connection: 'keep-alive',
  'Transfer-Encoding': 'chunked',
  'X-Accel-Buffering': 'no',
}

/**
 * Sends `progress` until the job ends, then `result`, or `error` where there is no picture. Sends `handle` where this
 * server stops and another one goes on. A slow reader misses snapshots in between, never the last.
 * @param waiter absent where the stream only looks at the job, which then does not depend on it.
 */
export function streamJob(
  c: Context,
  job: {
    readonly watch: (signal: AbortSignal) => AsyncIterable<Job>
    readonly describe: (job: Job) => ImageAnswer
    readonly waiter?: Pick<Waiter, 'detach' | 'leave'>
  },
): Response {
  const { watch, describe, waiter } = job
  return c.body(
    eventStream(async ({ send, signal }) => {
      try {
        let last: Job | undefined
        for await (const now of watch(signal)) {
          last = now
          if (now.error) await send('error', { ...now.error, job_id: now.id, state: now.state })
          else await send(hasEnded(now) ? 'result' : 'progress', describe(now))
        }
        if (last && !hasEnded(last) && !signal.aborted) {
          await waiter?.detach()
          await send('handle', describe(last))
        }
      } catch (error) {
        await send('error', toAppError(error).toPublic())
      } finally {
        await waiter?.leave()
      }
    }),
    200,
    HEADERS,
  )
}

interface Events {
  /** Resolves when the reader wants more, or is gone. */
  send(event: string, data: object): Promise<void>
  /** Aborts when the reader is gone. */
  readonly signal: AbortSignal
}

const encoder = new TextEncoder()

/** The events that `tell` sends. One stream and no pipe: many clients wait for a long time, and each of them holds one. */
function eventStream(tell: (events: Events) => Promise<void>): ReadableStream<Uint8Array> {
  const gone = new AbortController()
  const { signal } = gone
  let keepAlive: NodeJS.Timeout | undefined
  let wanted = () => {}
  return new ReadableStream({
    start(controller) {
      const write = (text: string) => {
        if (!signal.aborted) controller.enqueue(encoder.encode(text))
      }
      const isFull = () => !signal.aborted && (controller.desiredSize ?? 0) <= 0
      // A reader that is behind needs no sign of life.
      keepAlive = setInterval(() => isFull() || write(': keep-alive\n\n'), KEEP_ALIVE_MS)
      const send = async (event: string, data: object) => {
        write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)
        if (!isFull()) return
        await new Promise<void>((resolve) => {
          wanted = resolve
        })
      }
      const end = (close: () => void) => {
        clearInterval(keepAlive)
        if (!signal.aborted) close()
      }
      tell({ send, signal }).then(
        () => end(() => controller.close()),
        (error) => end(() => controller.error(error)),
      )
    },
    pull: () => wanted(),
    cancel() {
      clearInterval(keepAlive)
      gone.abort()
      wanted()
    },
  })
}
