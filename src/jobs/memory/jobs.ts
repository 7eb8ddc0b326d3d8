/** Jobs in this process: accepted work lives while the process lives. */
import { randomInt, randomUUID } from 'node:crypto'
import { type Identity, isAnonymous } from '../../auth/caller.ts'
import { AppError, quote } from '../../errors.ts'
import { type GenerationRequest, type ImageRequest, SEED_RANGE } from '../../runtimes/request.ts'
import { type AdmissionView, isTest, judge, REFUSED_AS, refusal } from '../admission.ts'
import { cancelled, keyConflict, noSuchJob, shuttingDown } from '../endings.ts'
import {
  hasEnded,
  type Jobs,
  type JobsOptions,
  type Refusal,
  type SubmitOptions,
  type Waiter,
} from '../job.ts'
import { canonical, chooseTarget, withDefaults } from '../request-of-job.ts'
import { watchSnapshots } from '../watch.ts'
import { currentOf, type Entry, timeOf } from './entry.ts'
import { createLane, type Lane } from './lane.ts'
import { createLife, type Life } from './life.ts'
import { createOutlook, type Outlook } from './outlook.ts'
import { createRemembered } from './remembered.ts'
import { createTwins } from './twins.ts'

/** How often a job may run again where nothing else is said. */
const MAX_RERUNS = 3

export interface MemoryJobsOptions extends JobsOptions {
  /** How often a job may run again on another replica, before it fails; absent: 3. */
  readonly maxReruns?: number
}

/** A job backend that keeps everything in this process's memory. */
export function createMemoryJobs(options: MemoryJobsOptions): Jobs {
  const { targets, images, log, metrics, ttlSeconds, maxReruns = MAX_RERUNS } = options
  const lanes = new Map(targets.map((target) => [target.name, createLane<Entry>(target)]))
  const entries = new Map<string, Entry>()
  const outlooks = new Map(targets.map(({ name }) => [name, createOutlook()]))
  const outlookOf: OutlookOf = ({ target }) => outlooks.get(target.name) as Outlook
  const twins = createTwins()
  const remembered = createRemembered({
    ttlSeconds,
    forget(entry) {
      entries.delete(entry.job.id)
      twins.release(entry)
    },
  })
  const life = createLife({
    ...options,
    maxReruns,
    onMove: (lane) => outlookOf(lane).ask(),
    onEnd(entry) {
      remembered.add(entry)
      tellIfIdle()
    },
    onRelease: tellIfIdle,
  })
  let draining = false
  let idle: (() => void) | undefined

  const queue = () => [...lanes.values()].map((lane) => lane.report())
  metrics.observeQueue(queue)

  const unfollow = followPools(lanes, { life, outlookOf })

  const everythingEnded = () => [...lanes.values()].every((lane) => lane.unfinished() === 0)

  function tellIfIdle(): void {
    if (idle && everythingEnded()) idle()
  }

  function refuse(lane: Lane<Entry>, reason: Refusal, error: AppError): never {
    lane.countRefusal(reason)
    metrics.jobsRefused.inc({ target: lane.target.name, reason })
    throw error
  }

  function owned(id: string, caller: Identity): Entry {
    const entry = entries.get(id)
    if (entry && entry.job.owner === caller.id) return entry
    throw noSuchJob(quote(id))
  }

  function join(entry: Entry, { key, deadlineMs }: Asked): Waiter {
    life.apply(entry, 'join')
    twins.remember(entry, key)
    allow(entry, deadlineMs)
    return addWaiter({ entry, joined: true, life, outlookOf })
  }

  /** Whoever joins may allow more time; nobody is given less than was promised. */
  function allow(entry: Entry, deadlineMs: number): void {
    const deadlineBy = performance.now() + deadlineMs
    if (hasEnded(entry.job) || deadlineBy <= entry.deadlineBy) return
    clearTimeout(entry.deadline)
    entry.deadline = setTimeout(() => life.expire(entry), deadlineMs)
    entry.deadlineBy = deadlineBy
    entry.job = { ...entry.job, deadlineAt: timeOf(entry) + deadlineMs }
  }

  /** A new job in the queue. */
  function admit(asked: Asked): Entry {
    const entry = entryFor(asked, life)
    entries.set(entry.job.id, entry)
    twins.add(entry)
    twins.remember(entry, asked.key)
    asked.lane.push(entry)
    return entry
  }

  return {
    queue,

    async submit(request, caller, submitOptions = {}) {
      const target = chooseTarget(targets, request.model)
      const lane = lanes.get(target.name) as Lane<Entry>
      const asked = askedFor({ request, caller, lane, options, submitOptions })
      // Nothing is awaited between the last look for a twin and the admission: 50 equal submissions are one job.
      for (;;) {
        const twin = twins.find(asked)
        if (!twin) break
        if (twin.conflict) return refuse(twin.entry.lane, 'conflict', keyConflict())
        const { job } = twin.entry
        if (job.state !== 'succeeded' || (await images.head(job.imageId))) return join(twin.entry, asked)
        // Its picture was deleted meanwhile: it is made anew, once, by the first who asks.
        twins.release(twin.entry)
      }
      if (draining) return refuse(lane, 'overloaded', shuttingDown())
      const trouble = images.trouble?.() ?? target.pool.trouble()
      if (trouble) return refuse(lane, 'overloaded', trouble)
      const refused = refusalOf(asked)
      if (refused) return refuse(lane, refused.reason, refused.error)
      const entry = admit(asked)
      log.debug({ event: 'job admitted', job: entry.job.id, target: target.name, prompt: request.prompt })
      const waiter = addWaiter({ entry, joined: false, life, outlookOf })
      life.startNext(lane)
      return waiter
    },

    async get(id, caller) {
      return currentOf(owned(id, caller))
    },

    async *watch(id, caller, signal) {
      yield* watchEntry({ entry: owned(id, caller), outlookOf, signal })
    },

    async cancel(id, caller) {
      const entry = owned(id, caller)
      life.stop(entry, 'cancel', cancelled())
      return entry.job
    },

    async check() {},
    othersServe: async () => false,
    isCutOff: () => false,
    close: async () => unfollow(),

    async drain({ timeoutMs }) {
      draining = true
      if (everythingEnded()) return
      await new Promise<void>((resolve) => {
        idle = resolve
        setTimeout(resolve, timeoutMs).unref()
      })
      for (const { queued, running } of lanes.values()) {
        // From the last one on, so that nobody moves up.
        const entries = [...queued.inOrder().toReversed(), ...running.keys()]
        for (const entry of entries) life.stop(entry, 'fail', stoppedBefore())
      }
    },
  }
}

/** When replicas come and go, the lanes follow. Returns what ends that. */
function followPools(
  lanes: ReadonlyMap<string, Lane<Entry>>,
  { life, outlookOf }: { life: Life; outlookOf: OutlookOf },
) {
  const stops = [...lanes.values()].map((lane) =>
    lane.target.pool.onChange(() => {
      lane.refresh()
      life.startNext(lane)
      outlookOf(lane).ask()
    }),
  )
  return () => {
    for (const stop of stops) stop()
  }
}

type OutlookOf = (lane: Lane<Entry>) => Outlook

/** A submission, its target's defaults filled in. */
interface Asked {
  readonly caller: Identity
  readonly lane: Lane<Entry>
  readonly work: Omit<GenerationRequest, 'seed'> & { readonly seed?: number }
  readonly request: string
  readonly key: string | undefined
  readonly seeded: boolean
  readonly deadlineMs: number
  readonly requestId: string | undefined
}

function askedFor(parts: {
  readonly request: ImageRequest
  readonly caller: Identity
  readonly lane: Lane<Entry>
  readonly options: JobsOptions
  readonly submitOptions: SubmitOptions
}): Asked {
  const { request, caller, lane, options, submitOptions } = parts
  const { idempotencyKey, deadlineMs = options.deadlineMs, requestId } = submitOptions
  const work = withDefaults(request, lane.target)
  return {
    caller,
    lane,
    work,
    request: `${caller.id}\n${lane.target.name}\n${canonical(work)}`,
    key: idempotencyKey === undefined ? undefined : `${caller.id}\n${idempotencyKey}`,
    seeded: request.seed !== undefined,
    deadlineMs,
    requestId,
  }
}

/** A job that nobody waits for yet, and that is in no queue. */
function entryFor(asked: Asked, life: Life): Entry {
  const createdAt = Date.now()
  const since = performance.now()
  const entry: Entry = {
    job: {
      id: randomUUID(),
      imageId: randomUUID(),
      owner: asked.caller.id,
      target: asked.lane.target.name,
      request: { seed: randomInt(SEED_RANGE), ...asked.work } as GenerationRequest,
      state: 'queued',
      createdAt,
      deadlineAt: createdAt + asked.deadlineMs,
    },
    since,
    deadlineBy: since + asked.deadlineMs,
    runs: 0,
    life: 'queued/attended',
    lane: asked.lane,
    work: asked.work,
    request: asked.request,
    keys: new Set(),
    requestId: asked.requestId,
    abort: new AbortController(),
    waiters: new Set(),
    listeners: new Set(),
    deadline: setTimeout(() => life.expire(entry), asked.deadlineMs),
    grace: undefined,
  }
  return entry
}

/** Why this may not wait; undefined where it may. */
function refusalOf(asked: Asked): { reason: Refusal; error: AppError } | undefined {
  const { lane, caller, work } = asked
  const view = viewOf(asked)
  const because = judge(view)
  if (because === undefined) {
    if (isTest(view)) lane.tested(work)
    return undefined
  }
  const ownTurnMs = because === 'callerFull' ? lane.ownTurnMs(caller.id) : undefined
  const error = refusal({ target: lane.target.name, because, view: { ...view, ownTurnMs } })
  return { reason: REFUSED_AS[because], error }
}

function viewOf(asked: Asked): AdmissionView {
  const { caller, lane, work, deadlineMs } = asked
  const { target, queued } = lane
  return {
    ...lane.slots(),
    queued: queued.size,
    queueLimit: target.queue,
    queuedOfCaller: queued.sizeOf(caller.id),
    queueLimitOfCaller: isAnonymous(caller) ? target.queue : target.queuePerCaller,
    deadlineMs,
    ...lane.predict({ caller: caller.id, work }),
  }
}

function watchEntry(watched: { entry: Entry; outlookOf: OutlookOf; signal?: AbortSignal }) {
  const { entry, outlookOf, signal } = watched
  const outlook = outlookOf(entry.lane)
  const listeners = {
    add: (listener: () => void) => outlook.listen(entry, listener),
    delete: (listener: () => void) => outlook.unlisten(entry, listener),
  }
  return watchSnapshots({ current: () => entry.job, listeners, signal })
}

function addWaiter(parts: { entry: Entry; joined: boolean; life: Life; outlookOf: OutlookOf }): Waiter {
  const { entry, joined, life, outlookOf } = parts
  const waiter: Waiter = {
    get job() {
      return currentOf(entry)
    },
    joined,
    watch: (signal) => watchEntry({ entry, outlookOf, signal }),
    async detach() {
      life.apply(entry, 'detach')
    },
    async leave() {
      if (entry.waiters.delete(waiter) && entry.waiters.size === 0) life.apply(entry, 'leave')
    },
  }
  entry.waiters.add(waiter)
  return waiter
}

/** The process ended before the job did. */
function stoppedBefore(): AppError {
  return new AppError(
    'runtime_unavailable',
    'The server stopped before the picture was made; send the request again.',
    { retryAfterSeconds: 1 },
  )
}
