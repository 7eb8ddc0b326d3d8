/** One run of a job that has its slot: the picture is made, and the book hears how it ended. */
import { toAppError } from '../../errors.ts'
import type { ImageStore } from '../../images/image.ts'
import type { Target } from '../../runtimes/targets.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Metrics } from '../../telemetry/metrics.ts'
import { attemptOn } from '../attempt.ts'
import type { Figures, WorkModel } from '../figures.ts'
import type { Job } from '../job.ts'
import { makePicture } from '../picture.ts'
import type { Book, Started } from './book/book.ts'
import type { Steps } from './steps.ts'

/** Why a run was aborted although nobody ended its job: its server stops, or the run is another server's. */
export class HandedBack extends Error {}
export class Lost extends Error {}

export interface RunParts {
  readonly target: Target
  readonly book: Book
  readonly steps: Steps
  readonly images: ImageStore
  readonly figures: Figures
  /** Marks this server's samples, so that it does not learn from them twice. */
  readonly server: string
  readonly ttlSeconds: number
  readonly log: Logger
  readonly metrics: Metrics
}

/**
 * Runs a job that the book let start.
 * @param run.persist repeats a call to the book until Valkey answers, so that nothing that was done is lost.
 * @returns done: nothing is left to do with its delivery; back: another worker may have it.
 */
export async function runJob(
  run: {
    readonly started: Started & { verdict: 'go' }
    readonly abort: AbortController
    readonly persist: <T>(act: () => Promise<T>) => Promise<T>
  },
  parts: RunParts,
): Promise<'done' | 'back'> {
  const { started, abort, persist } = run
  const { target, book, steps, images, figures, server, ttlSeconds, log, metrics } = parts
  const { job, run: number, requestId, now } = started
  const { id } = job
  const { pool } = target
  // The slot is taken since it was granted; the delivery is part of the service. The book's times are compared with
  // each other only, never with a clock of this machine.
  const deliveryMs = number === 1 ? Math.max(0, now - (job.startedAt ?? now)) : 0
  const began = performance.now() - deliveryMs
  const waitMs = Math.max(0, (job.startedAt ?? now) - job.createdAt)
  if (number === 1) metrics.queueSeconds.observe({ target: target.name }, waitMs / 1000)
  else log.warn({ event: 'job runs again', job: id, target: target.name, run: number })

  const onLost = () => abort.abort(new Lost())
  const tell = (
    event: 'finish' | 'fail' | 'release',
    more: { outcome?: string; sample?: string; model?: WorkModel } = {},
  ) => persist(() => book.finish({ id, target: target.name, run: number, event, ...more }))

  try {
    // The worker before this one may have stored the picture and died before it could say so.
    const image =
      (number > 1 ? await images.head(job.imageId).catch(() => undefined) : undefined) ??
      (await makePicture({
        job,
        target,
        runtime: attemptOn({ pool, replica: pool.ready()[0]?.id ?? '', figures }),
        images,
        ttlSeconds,
        signal: abort.signal,
        onProgress: (progress) => steps.report(id, { run: number, progress, onLost }),
        requestId,
      }))
    steps.forget(id)
    const sample = {
      caller: job.owner,
      work: job.request,
      waitMs,
      serviceMs: performance.now() - began,
    }
    figures.observe(sample)
    const { verdict } = await tell('finish', {
      outcome: JSON.stringify(image),
      sample: JSON.stringify({ by: server, ...sample, work: workOf(job) }),
      model: figures.workModel(),
    })
    if (verdict === 'told') metrics.serviceSeconds.observe({ target: target.name }, sample.serviceMs / 1000)
    else log.info({ event: 'picture came too late', job: id, run: number, verdict })
    return 'done'
  } catch (thrown) {
    steps.forget(id)
    if (abort.signal.reason instanceof HandedBack) {
      // Without an answer the next worker waits until the lease is over.
      await book.handback({ id, run: number }).catch(() => {})
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
  }
}

/** What decides how long a generation takes: other servers need no more of the request. */
function workOf({ request: { width, height, num_inference_steps } }: Job) {
  return { width, height, num_inference_steps }
}
