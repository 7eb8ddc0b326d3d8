/** The life of the jobs in memory: their states, their turns and their runs. */
import { mayReturn } from '../../auth/caller.ts'
import { type AppError, toAppError } from '../../errors.ts'
import type { GenerationRequest } from '../../runtimes/request.ts'
import { attemptOn, RunAgain } from '../attempt.ts'
import { abandoned, expired, ranTooOften } from '../endings.ts'
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
    /** How often a job may run again. */
    readonly maxReruns: number
  },
) {
  const { maxReruns } = options
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
    const { position: _, expectedAt: __, starting: ___, ...job } = entry.job
    entry.job = job
    if (from === 'queued' && to !== 'running') lane.queued.remove(entry)
    // A finished run frees its slot itself; any other end has to wait until the runtime let go.
    if (from === 'running') lane.end(entry)
    change(entry, { ...patch, state: to })
    onMove(lane)
    if (to === 'running') return
    lane.countEnd(to as EndState)
    metrics.jobsEnded.inc({ target: lane.target.name, state: to })
    log.info({ event: 'job ended', ...described(entry), state: to, code: patch.error?.code })
    onEnd(entry)
  }

  /** Ends a job against its will: here at once, in the runtime within a step. */
  function stop(entry: Entry, event: 'cancel' | 'expire' | 'fail' | 'abandon', error: AppError): void {
    const { abort } = entry
    if (apply(entry, event, { endedAt: timeOf(entry), error: error.toPublic() })) abort?.abort(error)
  }

  /** Where nobody may come back there is nothing to wait for. */
  const graceOf = (entry: Entry) => (mayReturn({ id: entry.job.owner }) ? orphanGraceMs : 0)

  function startNext(lane: Lane<Entry>): void {
    for (let granted = lane.next(); granted; granted = lane.next()) {
      const { entry, replica } = granted
      const now = performance.now()
      entry.runningSince = now
      entry.runs += 1
      const ownMs = lane.figures.estimate(entry.work)
      const expectedAt = ownMs === undefined ? undefined : now + ownMs
      lane.begin(entry)
      if (entry.runs > 1) change(entry, { expectedAt })
      else {
        apply(entry, 'start', { startedAt: timeOf(entry), expectedAt })
        metrics.queueSeconds.observe({ target: lane.target.name }, (now - entry.since) / 1000)
      }
      void run(entry, replica)
    }
  }

  /** The replica did not draw it. False where the job has to fail: it ran too often. */
  function runAgain(entry: Entry, error: AppError): boolean {
    if (hasEnded(entry.job)) return true
    if (entry.runs > maxReruns) return false
    const { id: job, target } = entry.job
    log.warn({
      event: 'job runs again',
      job,
      target,
      run: entry.runs + 1,
      message: error.message,
      err: error.cause,
    })
    entry.lane.runAgain(entry)
    change(entry, { progress: undefined, expectedAt: undefined })
    return true
  }

  async function run(entry: Entry, replica: string): Promise<void> {
    const { lane, requestId } = entry
    const abort = new AbortController()
    entry.abort = abort
    const began = entry.runningSince as number
    const waitMs = (entry.job.startedAt as number) - entry.job.createdAt
    try {
      const image = await makePicture({
        job: entry.job,
        request: entry.job.request as GenerationRequest,
        target: lane.target,
        runtime: attemptOn({ pool: lane.target.pool, replica, figures: lane.figures }),
        images,
        ttlSeconds,
        signal: abort.signal,
        onProgress(progress) {
          if (!hasEnded(entry.job)) change(entry, { progress })
        },
        requestId,
      })
      const serviceMs = performance.now() - began
      if (apply(entry, 'finish', { endedAt: timeOf(entry), image })) {
        lane.figures.observe({ work: entry.work, caller: entry.job.owner, waitMs, serviceMs })
        metrics.serviceSeconds.observe({ target: lane.target.name }, serviceMs / 1000)
      }
    } catch (thrown) {
      const again = thrown instanceof RunAgain
      if (again && runAgain(entry, thrown.error)) return
      const error = again ? ranTooOften(entry.runs, thrown.error) : toAppError(thrown)
      if (apply(entry, 'fail', { endedAt: timeOf(entry), error: error.toPublic() }))
        log.warn({
          event: 'generation failed',
          job: entry.job.id,
          code: error.code,
          message: error.message,
          err: error.cause,
        })
    } finally {
      lane.release(entry)
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

/** A job that just ended, for the log. */
function described(entry: Entry) {
  const { id: job, target, createdAt, startedAt } = entry.job
  const now = timeOf(entry)
  return {
    job,
    target,
    queued_ms: (startedAt ?? now) - createdAt,
    service_ms: startedAt === undefined ? undefined : now - startedAt,
  }
}
