/** Jobs in this process: accepted work lives while the process lives. */
import { randomInt, randomUUID } from 'node:crypto'
import { type Identity, isAnonymous } from '../../auth/caller.ts'
import { AppError, quote, toAppError } from '../../errors.ts'
import type { GenerationRequest, ImageRequest } from '../../runtimes/request.ts'
import { admit } from '../admission.ts'
import { abandoned, cancelled, expired, keyConflict, noSuchJob, shuttingDown } from '../endings.ts'
import type { Work } from '../estimate.ts'
import {
  hasEnded,
  type Job,
  type JobState,
  type Jobs,
  type JobsOptions,
  type Refusal,
  type SubmitOptions,
  type Waiter,
} from '../job.ts'
import { type EndState, type LifeEvent, type LifeState, next, publicState } from '../lifecycle.ts'
import { makePicture } from '../picture.ts'
import { canonical, chooseTarget, withDefaults } from '../request-of-job.ts'
import { watchSnapshots } from '../watch.ts'
import { createLane, type Lane } from './lane.ts'

/** Ended jobs are remembered as long as their pictures, but never more than this many: about 1 KiB each. */
const REMEMBERED = 20_000
const SEED_RANGE = 2 ** 32

/** A job with what its run needs. */
interface Entry {
  job: Job
  life: LifeState
  readonly lane: Lane<Entry>
  readonly work: Work
  /** Under what other submissions find this job: its request, and its idempotency keys. */
  readonly request: string
  readonly keys: Set<string>
  readonly requestId: string | undefined
  readonly abort: AbortController
  readonly waiters: Set<Waiter>
  readonly listeners: Set<() => void>
  deadline: NodeJS.Timeout
  grace: NodeJS.Timeout | undefined
}

/** A job backend that keeps everything in this process's memory. */
export function createMemoryJobs(options: JobsOptions): Jobs {
  const { targets, images, log, metrics } = options
  const lanes = new Map(targets.map((target) => [target.name, createLane<Entry>(target)]))
  const entries = new Map<string, Entry>()
  const byKey = new Map<string, Entry>()
  const byRequest = new Map<string, Entry>()
  let draining = false
  let idle: (() => void) | undefined

  const queue = () => [...lanes.values()].map((lane) => lane.report())
  metrics.observeQueue(queue)

  // --- the life of a job -------------------------------------------------------------------------------------

  function change(entry: Entry, patch: Partial<Job>): void {
    entry.job = { ...entry.job, ...patch }
    for (const listener of entry.listeners) listener()
  }

  /** The one place where a job changes its state; false when the event changes nothing any more. */
  function apply(entry: Entry, event: LifeEvent, patch: Partial<Job> = {}): boolean {
    const to = next(entry.life, event)
    if (to === undefined) return false
    const from = publicState(entry.life)
    entry.life = to
    const state = publicState(to)
    if (to.endsWith('/orphan')) entry.grace ??= setTimeout(() => abandon(entry), graceOf(entry))
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
    if (to === 'running') lane.running.add(entry)
    if (from === 'running') {
      lane.running.delete(entry)
      // A finished run frees its slot itself; any other end has to wait until the runtime let go.
      lane.releasing.add(entry)
    }
    change(entry, { ...patch, state: to })
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
      queued_ms: (entry.job.startedAt ?? Date.now()) - entry.job.createdAt,
      service_ms: entry.job.startedAt === undefined ? undefined : Date.now() - entry.job.startedAt,
    })
    forgetStale()
    tellOutlook(lane)
    tellIdle()
  }

  /** Ends a job against its will: here at once, in the runtime within a step. */
  function stop(entry: Entry, event: 'cancel' | 'expire' | 'fail' | 'abandon', error: AppError): void {
    if (apply(entry, event, { endedAt: Date.now(), error: error.toPublic() })) entry.abort.abort(error)
  }

  function abandon(entry: Entry): void {
    stop(entry, 'abandon', abandoned())
  }

  /** Where callers cannot be told apart nobody may adopt, so there is nothing to wait for. */
  function graceOf(entry: Entry): number {
    return isAnonymous({ id: entry.job.owner }) ? 0 : options.orphanGraceMs
  }

  function expire(entry: Entry): void {
    stop(entry, 'expire', expired(entry.job))
  }

  function startNext(lane: Lane<Entry>): void {
    while (lane.busy() < lane.target.concurrency) {
      const entry = lane.queued.shift()
      if (!entry) break
      const startedAt = Date.now()
      const ownMs = lane.estimate(entry.work)
      apply(entry, 'start', {
        startedAt,
        ...(ownMs === undefined ? {} : { expectedAt: Math.round(startedAt + ownMs) }),
      })
      metrics.queueSeconds.observe({ target: lane.target.name }, (startedAt - entry.job.createdAt) / 1000)
      void run(entry)
    }
    tellOutlook(lane)
  }

  async function run(entry: Entry): Promise<void> {
    const { lane } = entry
    const startedAt = entry.job.startedAt as number
    try {
      const image = await makePicture({
        job: entry.job,
        target: lane.target,
        images,
        ttlSeconds: options.ttlSeconds,
        signal: entry.abort.signal,
        onProgress(progress) {
          if (!hasEnded(entry.job)) change(entry, { progress })
        },
        ...(entry.requestId === undefined ? {} : { requestId: entry.requestId }),
      })
      const serviceMs = Date.now() - startedAt
      if (apply(entry, 'finish', { endedAt: Date.now(), image })) {
        lane.observe({ work: entry.work, waitMs: startedAt - entry.job.createdAt, serviceMs })
        metrics.serviceSeconds.observe({ target: lane.target.name }, serviceMs / 1000)
      }
    } catch (thrown) {
      const error = toAppError(thrown)
      if (apply(entry, 'fail', { endedAt: Date.now(), error: error.toPublic() }))
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
      tellIdle()
    }
  }

  function tellOutlook(lane: Lane<Entry>): void {
    for (const { entry, position, expectedAt } of lane.outlook())
      if (entry.job.position !== position)
        change(entry, { position, ...(expectedAt === undefined ? {} : { expectedAt }) })
  }

  function tellIdle(): void {
    if (idle && [...lanes.values()].every((lane) => lane.queued.size + lane.busy() === 0)) idle()
  }

  function forgetStale(): void {
    const staleBefore = Date.now() - options.ttlSeconds * 1000
    for (const entry of entries.values()) {
      const stale =
        hasEnded(entry.job) && ((entry.job.endedAt as number) < staleBefore || entries.size > REMEMBERED)
      if (!stale) break
      entries.delete(entry.job.id)
      release(entry)
    }
  }

  // --- once --------------------------------------------------------------------------------------------------

  /** The job that a submission is a retry of, or may share; undefined when it needs one of its own. */
  function findTwin(lookup: {
    key: string | undefined
    request: string
    seeded: boolean
    caller: Identity
  }): Entry | undefined {
    const { key, request, seeded, caller } = lookup
    const same = key === undefined ? undefined : live(byKey.get(key))
    if (same) {
      if (same.request === request) return same
      refused(same.lane, 'conflict')
      throw keyConflict()
    }
    const twin = live(byRequest.get(request))
    if (!twin) return undefined
    if (twin.life.endsWith('/orphan')) return isAnonymous(caller) ? undefined : twin
    return key === undefined && seeded ? twin : undefined
  }

  /** A job that may be joined: not one that ended without a picture. */
  function live(entry: Entry | undefined): Entry | undefined {
    return entry && (!hasEnded(entry.job) || entry.job.state === 'succeeded') ? entry : undefined
  }

  /** Forgets under what a job could be found, where nobody else took its place. */
  function release(entry: Entry): void {
    for (const key of entry.keys) if (byKey.get(key) === entry) byKey.delete(key)
    if (byRequest.get(entry.request) === entry) byRequest.delete(entry.request)
  }

  function remember(entry: Entry, key: string | undefined): void {
    if (key === undefined) return
    entry.keys.add(key)
    byKey.set(key, entry)
  }

  // --- waiting -----------------------------------------------------------------------------------------------

  const watchEntry = (entry: Entry, signal?: AbortSignal) =>
    watchSnapshots({ current: () => entry.job, listeners: entry.listeners, signal })

  function addWaiter(entry: Entry, { joined }: { joined: boolean }): Waiter {
    const waiter: Waiter = {
      get job() {
        return entry.job
      },
      joined,
      watch: (signal) => watchEntry(entry, signal),
      async detach() {
        apply(entry, 'detach')
      },
      async leave() {
        if (entry.waiters.delete(waiter) && entry.waiters.size === 0) apply(entry, 'leave')
      },
    }
    entry.waiters.add(waiter)
    return waiter
  }

  function join(entry: Entry, { key, deadlineAt }: { key: string | undefined; deadlineAt: number }): Waiter {
    apply(entry, 'join')
    remember(entry, key)
    if (!hasEnded(entry.job) && deadlineAt > entry.job.deadlineAt) {
      // Whoever joins may allow more time; nobody is given less than was promised.
      clearTimeout(entry.deadline)
      entry.deadline = setTimeout(() => expire(entry), deadlineAt - Date.now())
      entry.job = { ...entry.job, deadlineAt }
    }
    return addWaiter(entry, { joined: true })
  }

  // --- the interface -----------------------------------------------------------------------------------------

  function checkAdmission(
    lane: Lane<Entry>,
    wanted: { caller: Identity; work: Work; deadlineMs: number },
  ): void {
    const { caller, work, deadlineMs } = wanted
    const { target } = lane
    try {
      if (draining) throw shuttingDown()
      admit({
        target: target.name,
        concurrency: target.concurrency,
        busy: lane.busy(),
        queued: lane.queued.size,
        queueLimit: target.queue,
        queuedOfCaller: lane.queued.sizeOf(caller.id),
        queueLimitOfCaller: isAnonymous(caller) ? target.queue : target.queuePerCaller,
        deadlineMs,
        ...lane.predict({ caller: caller.id, work }),
      })
    } catch (error) {
      refused(lane, (error as AppError).code as Refusal)
      throw error
    }
  }

  function refused(lane: Lane<Entry>, reason: Refusal): void {
    lane.countRefusal(reason)
    metrics.jobsRefused.inc({ target: lane.target.name, reason })
  }

  function owned(id: string, caller: Identity): Entry {
    const entry = entries.get(id)
    if (entry && entry.job.owner === caller.id) return entry
    throw noSuchJob(quote(id))
  }

  return {
    queue,

    async submit(asked: ImageRequest, caller: Identity, submitOptions: SubmitOptions = {}) {
      const target = chooseTarget(targets, asked.model)
      const lane = lanes.get(target.name) as Lane<Entry>
      const wanted = withDefaults(asked, target)
      const key =
        submitOptions.idempotencyKey === undefined
          ? undefined
          : `${caller.id}\n${submitOptions.idempotencyKey}`
      const request = `${caller.id}\n${target.name}\n${canonical(wanted)}`
      const deadlineMs = submitOptions.deadlineMs ?? options.deadlineMs
      const createdAt = Date.now()
      const deadlineAt = createdAt + deadlineMs

      for (;;) {
        const twin = findTwin({ key, request, seeded: asked.seed !== undefined, caller })
        if (!twin) break
        if (twin.job.state !== 'succeeded' || (await images.head(twin.job.imageId)))
          return join(twin, { key, deadlineAt })
        // Its picture was deleted meanwhile: it is made anew, once, by whoever comes first.
        release(twin)
      }

      checkAdmission(lane, { caller, work: wanted, deadlineMs })
      const entry: Entry = {
        job: {
          id: randomUUID(),
          imageId: randomUUID(),
          owner: caller.id,
          target: target.name,
          request: { seed: randomInt(SEED_RANGE), ...wanted } as GenerationRequest,
          state: 'queued',
          createdAt,
          deadlineAt,
        },
        life: 'queued/attended',
        lane,
        work: wanted,
        request,
        keys: new Set(),
        requestId: submitOptions.requestId,
        abort: new AbortController(),
        waiters: new Set(),
        listeners: new Set(),
        deadline: setTimeout(() => expire(entry), deadlineMs),
        grace: undefined,
      }
      entries.set(entry.job.id, entry)
      byRequest.set(request, entry)
      remember(entry, key)
      lane.push(entry)
      log.debug({ event: 'job admitted', job: entry.job.id, target: target.name, prompt: asked.prompt })
      const waiter = addWaiter(entry, { joined: false })
      startNext(lane)
      return waiter
    },

    async get(id, caller) {
      return owned(id, caller).job
    },

    async *watch(id, caller, signal) {
      yield* watchEntry(owned(id, caller), signal)
    },

    async cancel(id, caller) {
      const entry = owned(id, caller)
      stop(entry, 'cancel', cancelled())
      return entry.job
    },

    async check() {},
    async close() {},

    async drain({ timeoutMs }) {
      draining = true
      const all = () =>
        [...lanes.values()].flatMap(({ queued, running }) => [...queued.inOrder(), ...running])
      if (all().length === 0) return
      await new Promise<void>((resolve) => {
        idle = resolve
        setTimeout(resolve, timeoutMs).unref()
      })
      for (const entry of all())
        stop(
          entry,
          'fail',
          new AppError(
            'runtime_unavailable',
            'The server stopped before the picture was made; send the request again.',
            {
              retryAfterSeconds: 1,
            },
          ),
        )
    },
  }
}
