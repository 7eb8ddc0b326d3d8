/** A job's life as a stream of server-sent events. */
import type { Context } from 'hono'
import { streamSSE } from 'hono/streaming'
import { toAppError } from '../../errors.ts'
import { hasEnded, type Job, type Waiter } from '../../jobs/job.ts'
import type { ImageAnswer } from '../../tools/image/image-answer.ts'
import { KEEP_ALIVE_MS } from '../mcp.ts'

/**
 * Sends `progress` until the job ends, then `result`, or `error` where there is no picture. Sends `handle` where this
 * server stops and another one goes on.
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
  c.header('X-Accel-Buffering', 'no')
  return streamSSE(c, async (events) => {
    const gone = new AbortController()
    events.onAbort(() => gone.abort())
    const keepAlive = setInterval(() => void events.write(': keep-alive\n\n'), KEEP_ALIVE_MS)
    const send = (event: string, data: object) => events.writeSSE({ event, data: JSON.stringify(data) })
    try {
      let last: Job | undefined
      for await (const now of watch(gone.signal)) {
        last = now
        if (now.error) await send('error', { ...now.error, job_id: now.id, state: now.state })
        else await send(hasEnded(now) ? 'result' : 'progress', describe(now))
      }
      if (last && !hasEnded(last) && !gone.signal.aborted) {
        await waiter?.detach()
        await send('handle', describe(last))
      }
    } catch (error) {
      // Here and not in Hono's own handler, which sends the message of any error to the client.
      await send('error', toAppError(error).toPublic())
    } finally {
      clearInterval(keepAlive)
      await waiter?.leave()
    }
  })
}
