/**
 * Runs jobs that got a slot. BullMQ carries them to the workers of all servers and hands on what a dead worker had in
 * hand; whether a run may go on, and what comes of it, is the book's to say.
 */
import { Queue, WaitingError, Worker } from 'bullmq'
import { AppError, toAppError } from '../../errors.ts'
import type { ImageStore } from '../../images/image.ts'
import type { StepProgress } from '../../runtimes/runtime.ts'
import type { Target } from '../../runtimes/targets.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Metrics } from '../../telemetry/metrics.ts'
import type { Valkey } from '../../valkey/connection.ts'
import type { Figures } from '../figures.ts'
import type { Job } from '../job.ts'
import { makePicture } from '../picture.ts'
import type { Book, Started } from './book.ts'
import { createThrottle } from './throttle.ts'

/** Pause between two attempts to reach Valkey, and between two looks at a job that another worker holds; ms. */
const RETRY_MS = 250
/** Steps are reported at most this often, in milliseconds. */
const PROGRESS_MS = 250

/** Why a run was aborted although nobody ended its job. */
class HandedBack extends Error {}
class Lost extends Error {}

interface Run {
  readonly number: number
  readonly abort: AbortController
}

export interface WorkerParts {
  readonly target: Target
  readonly valkey: Valkey
  readonly book: Book
  readonly images: ImageStore
  readonly figures: Figures
  /** Marks this server's samples, so that it does not learn from them twice. */
  readonly server: string
  readonly prefix: string
  readonly ttlSeconds: number
  /** A run whose worker was silent for this long is handed on, in milliseconds. */
  readonly lockMs: number
  readonly maxReruns: number
  readonly log: Logger
  readonly metrics: Metrics
}

export type TargetWorker = ReturnType<typeof createTargetWorker>

/** The worker of one target in this server: runs up to the target's whole concurrency, if no other server does. */
export function createTargetWorker(parts: WorkerParts) {
  const { target, valkey, book, images, figures, server, prefix, lockMs, maxReruns, log, metrics } = parts
  const runs = new Map<string, Run>()
  let closing = false
  let handing = false

  const connection = valkey.duplicate({ blocking: true })
  const queueConnection = valkey.client
  const queue = new Queue(target.name, { connection: queueConnection, prefix, skipVersionCheck: true })
  const worker = new Worker(
    target.name,
    async (delivery, token) => {
      if ((await handle(delivery.data.id)) === 'done') return
      await delivery.moveToWait(token)
      throw new WaitingError()
    },
    {
      connection,
      prefix,
      skipVersionCheck: true,
      concurrency: target.concurrency,
      lockDuration: lockMs,
      stalledInterval: lockMs / 2,
      // The book counts re-runs, because it can tell a stopped server from a dead one.
      maxStalledCount: Number.MAX_SAFE_INTEGER,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
      runRetryDelay: RETRY_MS,
    },
  )
  // A lost connection is told once, by the connection itself; a lost lock is found by the book.
  const quiet = (error: Error) => log.debug({ event: 'bullmq', target: target.name, message: error.message })
  worker.on('error', quiet)
  queue.on('error', quiet)

  /** Tries until Valkey answers, so that nothing that was done is lost; gives up when the server closes. */
  async function persist<T>(act: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await act()
      } catch (error) {
        if (closing || !(error instanceof AppError && error.code === 'overloaded')) throw error
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
      }
    }
  }

  /** One delivery. done: nothing is left to do with it; back: another worker may have it. */
  async function handle(id: string): Promise<'done' | 'back'> {
    for (;;) {
      if (handing) return 'back'
      const started = await persist(() =>
        book.start({
          id,
          target: target.name,
          lockMs,
          maxReruns,
          exhausted: JSON.stringify(
            new AppError(
              'runtime_failed',
              `The picture was begun ${maxReruns + 1} times, and each time the server that made it died. Ask for it again, or for something smaller.`,
            ).toPublic(),
          ),
        }),
      )
      if (started.verdict === 'ended') return 'done'
      if (started.verdict === 'go' && !handing) return await run(started)
      if (started.verdict === 'go') {
        await book.handback({ id, run: started.run })
        return 'back'
      }
      await new Promise((resolve) => setTimeout(resolve, Math.min(started.waitMs + 1, RETRY_MS)))
    }
  }

  async function run(started: Started & { verdict: 'go' }): Promise<'done' | 'back'> {
    const { job, run: number, requestId, now } = started
    const { id } = job
    const abort = new AbortController()
    // The slot is taken since it was granted; the delivery is part of the service.
    const startedAt = Date.now() - (number === 1 ? now - (job.startedAt ?? now) : 0)
    if (number === 1)
      metrics.queueSeconds.observe({ target: target.name }, ((job.startedAt ?? 0) - job.createdAt) / 1000)
    else log.warn({ event: 'job runs again', job: id, target: target.name, run: number })
    runs.set(id, { number, abort })
    const progress = createThrottle<StepProgress>({
      everyMs: PROGRESS_MS,
      async act(step) {
        const mine = await book
          .progress({ id, run: number, progress: JSON.stringify(step) })
          // Away: the next beat tells.
          .catch(() => true)
        if (!mine) abort.abort(new Lost())
      },
    })
    const tell = (
      event: 'finish' | 'fail' | 'release',
      more: { outcome?: string; sample?: string; unitMs?: number } = {},
    ) => persist(() => book.finish({ id, target: target.name, run: number, event, ...more }))

    try {
      // The worker before this one may have stored the picture and died before it could say so.
      const image =
        (number > 1 ? await images.head(job.imageId).catch(() => undefined) : undefined) ??
        (await makePicture({
          job,
          target,
          images,
          ttlSeconds: parts.ttlSeconds,
          signal: abort.signal,
          onProgress: progress.push,
          ...(requestId === undefined ? {} : { requestId }),
        }))
      progress.stop()
      const sample = {
        work: job.request,
        waitMs: (job.startedAt ?? startedAt) - job.createdAt,
        serviceMs: Date.now() - startedAt,
      }
      figures.observe(sample)
      const estimate = figures.estimate(target.defaults)
      const { verdict } = await tell('finish', {
        outcome: JSON.stringify(image),
        sample: JSON.stringify({ by: server, ...sample, work: workOf(job) }),
        ...(estimate === undefined ? {} : { unitMs: estimate }),
      })
      if (verdict === 'told') metrics.serviceSeconds.observe({ target: target.name }, sample.serviceMs / 1000)
      else log.info({ event: 'picture came too late', job: id, run: number, verdict })
      return 'done'
    } catch (thrown) {
      progress.stop()
      if (abort.signal.reason instanceof HandedBack) {
        await book.handback({ id, run: number })
        log.info({ event: 'job handed back', job: id, target: target.name })
        return 'back'
      }
      if (abort.signal.aborted) {
        await tell('release')
        return 'done'
      }
      const error = toAppError(thrown)
      log.warn({
        event: 'generation failed',
        job: id,
        code: error.code,
        message: error.message,
        err: error.cause,
      })
      await tell('fail', { outcome: JSON.stringify(error.toPublic()) })
      return 'done'
    } finally {
      runs.delete(id)
    }
  }

  /** Aborts what still runs, and gives it to the workers of other servers. */
  function handBack(): void {
    handing = true
    for (const { abort } of runs.values()) abort.abort(new HandedBack())
  }

  return {
    /** Runs in hand: job id and number of the run. */
    runs: () => [...runs].map(([id, { number }]) => [id, number] as const),
    /** The job ended, or another worker has it: its run stops within a step. */
    abort(id: string): void {
      runs.get(id)?.abort.abort(new Lost())
    },
    /** Sends a job to whichever worker is free; what fails here is repeated by any server's sweep. */
    async deliver(id: string): Promise<void> {
      await queue.add('generation', { id }, { jobId: id, removeOnComplete: true, removeOnFail: true })
    },
    /** Takes nothing new. */
    async pause(): Promise<void> {
      await worker.pause(true)
    },
    handBack,
    /** Hands back what still runs and closes the connections; resolves within `timeoutMs`. */
    async close({ timeoutMs }: { timeoutMs: number }): Promise<void> {
      handBack()
      closing = true
      await Promise.race([
        Promise.allSettled([worker.close(), queue.close()]),
        new Promise((resolve) => setTimeout(resolve, timeoutMs).unref()),
      ])
      connection.disconnect()
    },
  }
}

/** What decides how long a generation takes: other servers need no more of the request. */
function workOf({ request: { width, height, num_inference_steps } }: Job) {
  return { width, height, num_inference_steps }
}
