/** The life of the jobs in memory: their states, their turns and their runs. */
import { isAnonymous } from '../../auth/caller.ts'
import { type AppError, toAppError } from '../../errors.ts'
import { attemptOn } from '../attempt.ts'
import { abandoned, expired } from '../endings.ts'
import { hasEnded, type Job, type JobState, type JobsOptions } from '../job.ts'
import { type EndState, type LifeEvent, next, publicState } from '../lifecycle.ts'
import { makePicture } from '../picture.ts'
import { change, type Entry, timeOf } from './entry.ts'
import type { Lane } from './lane.ts'

export type Life = ReturnType<typeof createLife>

/**
 * @param options.onMove called when the places of those who wait may have moved.
 * @param options.onEnd called after a job ended.
 * @param options.onRelease called after the runtime let go of a slot.
 */
export function createLife(
  options: JobsOptions & {
    readonly onMove: (lane: Lane<Entry>) => void
    readonly onEnd: (entry: Entry) => void
    readonly onRelease: () => void
  },
) {
  const { images, ttlSeconds, orphanGraceMs, log, metrics, onMove, onEnd, onRelease } = options

  /** The one place where a job changes its state; false when the event changes nothing any more. */
  function apply(entry: Entry, event: LifeEvent, patch: Partial<Job> = {}): boolean {
    const to = next(entry.life, event)
    if (to === undefined) return false
    const from = publicState(entry.life)
    entry.life = to
    const state = publicState(to)
    if (to.endsWith('/orphan'))
      entry.grace ??= setTimeout(() => stop(entry, 'abandon', abandoned()), graceOf(entry))
    else {
      clearTimeout(entry.grace)
      entry.grace = undefined
    }
    if (state !== from) move(entry, { from, to: state, patch })
    return true
  }

  function move(
    entry: Entry,
    { from, to, patch }: { from: JobState; to: JobState; patch: Partial<Job> },
  ): void {
    const { lane } = entry
    const { position: _, expectedAt: __, ...job } = entry.job
    entry.job = job
    if (from === 'queued' && to !== 'running') lane.queued.remove(entry)
    if (to === 'running') lane.begin(entry)
    // A finished run frees its slot itself; any other end has to wait until the runtime let go.
    if (from === 'running') lane.end(entry)
    change(entry, { ...patch, state: to })
    onMove(lane)
    if (to === 'running') return
    clearTimeout(entry.deadline)
    lane.countEnd(to as EndState)
    metrics.jobsEnded.inc({ target: lane.target.name, state: to })
    log.info({
      event: 'job ended',
      job: entry.job.id,
      target: lane.target.name,
      state: to,
      code: patch.error?.code,
      queued_ms: (entry.job.startedAt ?? timeOf(entry)) - entry.job.createdAt,
      service_ms: entry.job.startedAt === undefined ? undefined : timeOf(entry) - entry.job.startedAt,
    })
    onEnd(entry)
  }

  /** Ends a job against its will: here at once, in the runtime within a step. */
  function stop(entry: Entry, event: 'cancel' | 'expire' | 'fail' | 'abandon', error: AppError): void {
    if (apply(entry, event, { endedAt: timeOf(entry), error: error.toPublic() })) entry.abort.abort(error)
  }

  /** Where callers cannot be told apart nobody may adopt, so there is nothing to wait for. */
  const graceOf = (entry: Entry) => (isAnonymous({ id: entry.job.owner }) ? 0 : orphanGraceMs)

  function startNext(lane: Lane<Entry>): void {
    while (lane.busy() < lane.target.concurrency) {
      const entry = lane.queued.shift()
      if (!entry) break
      const now = performance.now()
      entry.runningSince = now
      const ownMs = lane.estimate(entry.work)
      const expectedAt = ownMs === undefined ? undefined : now + ownMs
      apply(entry, 'start', { startedAt: timeOf(entry), expectedAt })
      metrics.queueSeconds.observe({ target: lane.target.name }, (now - entry.since) / 1000)
      void run(entry)
    }
  }

  async function run(entry: Entry): Promise<void> {
    const { lane, requestId } = entry
    const began = entry.runningSince as number
    const { pool } = lane.target
    try {
      const image = await makePicture({
        job: entry.job,
        target: lane.target,
        runtime: attemptOn({ pool, replica: pool.ready()[0]?.id ?? '' }),
        images,
        ttlSeconds,
        signal: entry.abort.signal,
        onProgress(progress) {
          if (!hasEnded(entry.job)) change(entry, { progress })
        },
        requestId,
      })
      const serviceMs = performance.now() - began
      if (apply(entry, 'finish', { endedAt: timeOf(entry), image })) {
        lane.observe({ work: entry.work, caller: entry.job.owner, waitMs: began - entry.since, serviceMs })
        metrics.serviceSeconds.observe({ target: lane.target.name }, serviceMs / 1000)
      }
    } catch (thrown) {
      const error = toAppError(thrown)
      if (apply(entry, 'fail', { endedAt: timeOf(entry), error: error.toPublic() }))
        log.warn({
          event: 'generation failed',
          job: entry.job.id,
          code: error.code,
          message: error.message,
          err: error.cause,
        })
    } finally {
      lane.releasing.delete(entry)
      startNext(lane)
      onRelease()
    }
  }

  return {
    apply,
    stop,
    /** Its deadline has passed. */
    expire(entry: Entry): void {
      stop(entry, 'expire', expired(entry.job))
    },
    /** Gives free slots to those who are next. */
    startNext,
  }
}
