/** Jobs in Valkey: any number of servers behave as one, and accepted work survives the death of any of them. */
import { createHash, randomInt, randomUUID } from 'node:crypto'
import { type Identity, isAnonymous } from '../../auth/caller.ts'
import type { Secret } from '../../auth/secret.ts'
import { type AppError, quote } from '../../errors.ts'
import type { ImageRequest } from '../../runtimes/request.ts'
import type { Target } from '../../runtimes/targets.ts'
import { connectValkey, risksOf } from '../../valkey/connection.ts'
import { admit } from '../admission.ts'
import { keyConflict, noSuchJob, shuttingDown } from '../endings.ts'
import { createFigures, type Figures } from '../figures.ts'
import {
  hasEnded,
  type Job,
  type Jobs,
  type JobsOptions,
  type Refusal,
  type SubmitOptions,
  type Waiter,
} from '../job.ts'
import { canonical, chooseTarget, type Wanted, withDefaults } from '../request-of-job.ts'
import { watchSnapshots } from '../watch.ts'
import { type Counts, createBook, type Effects, type Submission, type View } from './book.ts'
import { createThrottle } from './throttle.ts'
import { createTargetWorker, type TargetWorker } from './worker.ts'

const SEED_RANGE = 2 ** 32
/** Deadlines, orphans and lost deliveries are looked for this often, in milliseconds. */
const SWEEP_MS = 500
/** Watchers of queued jobs hear of a new place in the queue at most this often, in milliseconds. */
const OUTLOOK_MS = 1000
/** A waiter counts as gone when its server was silent for this many locks. */
const LOCKS_PER_LEASE = 2
/** Renewals per lock or lease: two may get lost. */
const BEATS = 3
/** How long a handed-back run may take to stop, and connections to close, in milliseconds. */
const STOP_MS = 5000

const NOTHING: Counts = {
  queued: 0,
  running: 0,
  releasing: 0,
  admitted: 0,
  ended: { succeeded: 0, failed: 0, cancelled: 0, expired: 0 },
  refused: { overloaded: 0, rate_limited: 0, deadline_exceeded: 0, conflict: 0 },
}

export interface ValkeyJobsOptions extends JobsOptions {
  readonly url: Secret
  /** A run whose server was silent for this long is begun again by another one, in milliseconds. */
  readonly lockMs: number
  /** How often a job may be begun again after its server died. */
  readonly maxReruns: number
  /** First part of every key; absent: `diffusers-mcp`. */
  readonly prefix?: string
}

/** A job that somebody in this process follows. */
interface Followed {
  job: Job | undefined
  followers: number
  readonly listeners: Set<() => void>
  refreshing: boolean
  again: boolean
}

/** One target as this server sees it. */
interface Lane {
  readonly target: Target
  readonly figures: Figures
  readonly worker: TargetWorker
  counts: Counts
}

/**
 * A job backend over Valkey or Redis. Waits some seconds for it; while it is away, at the start or later, new work is
 * refused with `overloaded`, runs go on, and they are reported when it is back. Needs one server (a primary with
 * replicas is fine, Valkey Cluster is not).
 */
export async function createValkeyJobs(options: ValkeyJobsOptions): Promise<Jobs> {
  const { targets, images, log, metrics, lockMs, maxReruns, prefix = 'diffusers-mcp' } = options
  const server = randomUUID()
  const leaseMs = lockMs * LOCKS_PER_LEASE
  const followed = new Map<string, Followed>()
  /** Waiters of this server, by their own id. */
  const waiters = new Map<string, { readonly id: string }>()
  let draining = false
  /** Since when Valkey answered without a gap: only then is the silence of others theirs. */
  let steadySince: number | undefined

  const valkey = connectValkey({
    url: options.url,
    what: 'job store',
    log,
    onReady: () => void reconnected(),
  })
  const book = createBook({ valkey, prefix, onEffects: follow })
  const subscriber = valkey.duplicate({ blocking: false })
  subscriber.on('message', (_channel, message) => hear(message))
  // Whatever was said while nobody listened is read instead.
  subscriber.on('ready', () => refreshAll())
  void subscriber.subscribe(book.channel).catch(() => {})

  const lanes = new Map<string, Lane>(
    targets.map((target) => {
      const figures = createFigures(target)
      const { ttlSeconds } = options
      const worker = createTargetWorker({
        ...{
          target,
          valkey,
          book,
          images,
          figures,
          server,
          prefix,
          ttlSeconds,
          lockMs,
          maxReruns,
          log,
          metrics,
        },
      })
      return [target.name, { target, figures, worker, counts: NOTHING }]
    }),
  )
  const queue = () =>
    [...lanes.values()].map(({ target, figures, counts }) => ({
      target: target.name,
      concurrency: target.concurrency,
      queue_limit: target.queue,
      ...counts,
      ...figures.report(),
    }))
  metrics.observeQueue(queue)

  // --- what a call of this server has to be followed up with ---------------------------------------------------

  function follow({ targets: counts, ended, granted }: Effects): void {
    takeCounts(counts)
    for (const { target, id, state, createdMs, startedMs } of ended) {
      lanes.get(target)?.worker.abort(id)
      metrics.jobsEnded.inc({ target, state })
      log.info({
        event: 'job ended',
        job: id,
        target,
        state,
        queued_ms: startedMs < 0 ? createdMs : createdMs - startedMs,
        service_ms: startedMs < 0 ? undefined : startedMs,
      })
    }
    for (const { target, id } of granted)
      lanes
        .get(target)
        ?.worker.deliver(id)
        .catch((error) => log.debug({ event: 'delivery failed', job: id, message: error.message }))
  }

  function takeCounts(counts: ReadonlyMap<string, Counts>): void {
    for (const [target, now] of counts) {
      const lane = lanes.get(target)
      if (lane) lane.counts = now
    }
  }

  // --- what other servers do -----------------------------------------------------------------------------------

  function hear(message: string): void {
    const { changes, targets: counts, sample, progress } = book.readChanges(message)
    takeCounts(counts)
    for (const { target, id, state } of changes) {
      if (hasEnded({ state })) lanes.get(target)?.worker.abort(id)
      if (followed.has(id)) void refresh(id)
    }
    if (changes.length > 0) outlook.push(undefined)
    if (sample) {
      const { by, ...figures } = JSON.parse(sample[1])
      if (by !== server) lanes.get(sample[0])?.figures.observe(figures)
    }
    if (progress) {
      const [id, step] = progress
      const entry = followed.get(id)
      // A read under way may have been answered before this step: it would take the step back.
      if (entry?.refreshing) void refresh(id)
      else if (entry?.job?.state === 'running') change(entry, { ...entry.job, progress: JSON.parse(step) })
    }
  }

  /** Places in the queue move when anything does. */
  const outlook = createThrottle<undefined>({
    everyMs: OUTLOOK_MS,
    async act() {
      for (const [id, { job }] of followed) if (job?.state === 'queued') void refresh(id)
    },
  })

  function change(entry: Followed, job: Job | undefined): void {
    if (!job || (entry.job && hasEnded(entry.job))) return
    entry.job = job
    for (const listener of entry.listeners) listener()
  }

  /** The first snapshot of a job that is followed from now on. It may have changed since, before anybody listened. */
  function begin(entry: Followed, job: Job): void {
    if (!entry.job || hasEnded(job)) change(entry, job)
    if (!hasEnded(job)) void refresh(job.id)
  }

  /** Reads a followed job again; what changes during the read is read once more. */
  async function refresh(id: string): Promise<void> {
    const entry = followed.get(id)
    if (!entry) return
    entry.again = true
    if (entry.refreshing) return
    entry.refreshing = true
    while (entry.again) {
      entry.again = false
      // While Valkey is away nothing changes; refreshAll follows when it is back.
      change(entry, await book.get(id).catch(() => undefined))
    }
    entry.refreshing = false
  }

  function refreshAll(): void {
    for (const id of followed.keys()) void refresh(id)
  }

  // --- upkeep --------------------------------------------------------------------------------------------------

  async function reconnected(): Promise<void> {
    steadySince = undefined
    try {
      for (const { target, figures } of lanes.values()) {
        const samples = await book.target({ target: target.name, concurrency: target.concurrency })
        // After the first connect the messages of the channel teach.
        if (figures.report().service_ms === undefined)
          for (const sample of samples.toReversed()) figures.observe(JSON.parse(sample))
      }
      await beat()
      await renew()
      refreshAll()
      for (const { setting, is, risk } of risksOf(await valkey.use((client) => client.info())))
        log.error({ event: 'JOBS MAY BE LOST', setting: `set ${setting}`, is, risk })
    } catch (error) {
      log.debug({ event: 'upkeep failed', message: (error as Error).message })
    }
  }

  async function sweep(): Promise<void> {
    const leases = steadySince !== undefined && Date.now() - steadySince > leaseMs
    try {
      await book.sweep({ leases, targets: [...lanes.keys()] })
      steadySince ??= Date.now()
    } catch {
      steadySince = undefined
    }
  }

  async function beat(): Promise<void> {
    const runs = [...lanes.values()].flatMap(({ worker }) => worker.runs())
    if (runs.length === 0) return
    const lost = await book.beat({ runs, lockMs })
    for (const { worker } of lanes.values()) for (const id of lost) worker.abort(id)
  }

  async function renew(): Promise<void> {
    if (waiters.size === 0) return
    const over = new Set(
      await book.renew({ waiters: [...waiters].map(([waiter, { id }]) => [id, waiter] as const), leaseMs }),
    )
    for (const [waiter, { id }] of waiters) if (over.has(id)) waiters.delete(waiter)
    for (const id of over) void refresh(id)
  }

  const timers = [
    setInterval(() => void sweep(), SWEEP_MS),
    setInterval(() => void beat().catch(() => {}), lockMs / BEATS),
    setInterval(() => void renew().catch(() => {}), leaseMs / BEATS),
  ]
  for (const timer of timers) timer.unref()

  // --- waiting -------------------------------------------------------------------------------------------------

  function track(id: string): { readonly entry: Followed; untrack(): void } {
    const entry = followed.get(id) ?? {
      job: undefined,
      followers: 0,
      listeners: new Set(),
      refreshing: false,
      again: false,
    }
    followed.set(id, entry)
    entry.followers += 1
    return {
      entry,
      untrack() {
        entry.followers -= 1
        if (entry.followers === 0) followed.delete(id)
      },
    }
  }

  /** Ends when this server drains: whoever waits then gets a handle, and follows it at another one. */
  const watchEntry = (entry: Followed, signal?: AbortSignal) =>
    watchSnapshots({ current: () => entry.job, listeners: entry.listeners, isOver: () => draining, signal })

  /** A waiter for a job in the book; `lease` is its id there, absent where nothing is left to wait for. */
  function addWaiter(job: Job, { joined, lease }: { joined: boolean; lease?: string }): Waiter {
    const { entry, untrack } = track(job.id)
    begin(entry, job)
    if (lease !== undefined) waiters.set(lease, { id: job.id })
    let detached: Promise<unknown> = Promise.resolve()
    let left = false
    return {
      get job() {
        return entry.job as Job
      },
      joined,
      watch: (signal) => watchEntry(entry, signal),
      async detach() {
        const ask = () => book.event({ id: job.id, owner: job.owner, event: 'detach' })
        // The handle is out: while Valkey is away the lease keeps the job, and this goes on in the background.
        detached = insist(ask)
        await Promise.race([detached, new Promise((resolve) => setTimeout(resolve, SWEEP_MS).unref())])
      },
      async leave() {
        if (left) return
        left = true
        untrack()
        if (lease === undefined) return
        const go = async () => {
          await detached
          waiters.delete(lease)
          // If this fails, the lease runs out.
          await book.leave({ id: job.id, waiter: lease }).catch(() => {})
        }
        await Promise.race([go(), new Promise((resolve) => setTimeout(resolve, SWEEP_MS).unref())])
      },
    }
  }

  /** Tries until Valkey answers or the deadline of any job would be over. */
  async function insist(act: () => Promise<unknown>): Promise<void> {
    for (const until = Date.now() + options.deadlineMs; Date.now() < until && !draining; ) {
      try {
        await act()
        return
      } catch {
        await new Promise((resolve) => setTimeout(resolve, SWEEP_MS).unref())
      }
    }
  }

  // --- admission -----------------------------------------------------------------------------------------------

  async function refuse(target: string, error: unknown): Promise<never> {
    const reason = (error as AppError).code as Refusal
    metrics.jobsRefused.inc({ target, reason })
    // The refusal stands whether or not it could be counted for everybody.
    await book.refuse({ target, code: reason }).catch(() => {})
    throw error
  }

  /** @throws AppError as Jobs.submit */
  async function checkAdmission(
    lane: Lane,
    submission: Submission,
    wanted: Wanted,
    view: View,
  ): Promise<void> {
    const { target, figures } = lane
    const { ownMs, cost, deadlineMs, queueLimitOfCaller } = submission
    const perUnit = ownMs === undefined ? undefined : ownMs / cost
    const aheadMs = perUnit === undefined ? undefined : view.runningMs + view.unitsAhead * perUnit
    try {
      admit({
        target: target.name,
        concurrency: target.concurrency,
        busy: view.busy,
        queued: view.queued,
        queueLimit: target.queue,
        queuedOfCaller: view.queuedOfCaller,
        queueLimitOfCaller,
        deadlineMs,
        ownMs,
        aheadMs,
        nextSlotMs: ownMs === undefined ? undefined : (view.nextSlotMs ?? ownMs),
        // A caller's own jobs lie evenly among the others: the first one comes after its share of what is ahead.
        ownTurnMs:
          aheadMs === undefined ? undefined : aheadMs / target.concurrency / Math.max(1, view.queuedOfCaller),
        stale: figures.estimate(wanted) === undefined || figures.stale(),
      })
    } catch (error) {
      await refuse(target.name, error)
    }
  }

  await valkey.connected

  async function read(id: string, caller: Identity): Promise<Job> {
    const job = await book.get(id)
    if (job && job.owner === caller.id) return job
    throw noSuchJob(quote(id))
  }

  return {
    queue,

    async submit(asked: ImageRequest, caller: Identity, submitOptions: SubmitOptions = {}) {
      const target = chooseTarget(targets, asked.model)
      const lane = lanes.get(target.name) as Lane
      const wanted = withDefaults(asked, target)
      const { idempotencyKey, requestId, deadlineMs = options.deadlineMs } = submitOptions
      const ownMs = lane.figures.estimate(wanted)
      const submission: Submission = {
        id: randomUUID(),
        imageId: randomUUID(),
        owner: caller.id,
        anonymous: isAnonymous(caller),
        target: target.name,
        request: JSON.stringify({ seed: randomInt(SEED_RANGE), ...wanted }),
        requestHash: hashOf(caller.id, target.name, canonical(wanted)),
        seeded: asked.seed !== undefined,
        ...(idempotencyKey === undefined ? {} : { key: hashOf(caller.id, idempotencyKey) }),
        ...(requestId === undefined ? {} : { requestId }),
        waiter: randomUUID(),
        leaseMs,
        deadlineMs,
        graceMs: isAnonymous(caller) ? 0 : options.orphanGraceMs,
        ttlMs: options.ttlSeconds * 1000,
        cost: lane.figures.costOf(wanted),
        ...(ownMs === undefined ? {} : { ownMs }),
        concurrency: target.concurrency,
        queueLimit: target.queue,
        queueLimitOfCaller: isAnonymous(caller) ? target.queue : target.queuePerCaller,
        admitted: false,
      }
      if (draining) await refuse(target.name, shuttingDown())

      let admitted = false
      for (;;) {
        const reply = await book.submit({ ...submission, admitted })
        switch (reply.verdict) {
          case 'conflict':
            metrics.jobsRefused.inc({ target: target.name, reason: 'conflict' })
            throw keyConflict()
          case 'new':
          case 'full':
            await checkAdmission(lane, submission, wanted, reply.view)
            // Between the look and the admission another server may have filled the queue: then it is looked at again.
            admitted = true
            break
          case 'succeeded':
            if (await images.head(reply.job.imageId)) return addWaiter(reply.job, { joined: true })
            // Its picture was deleted meanwhile: it is made anew, once, by whoever comes first.
            await book.forget({ id: reply.job.id })
            break
          case 'joined':
          case 'admitted': {
            const joined = reply.verdict === 'joined'
            const waiter = addWaiter(reply.job, { joined, lease: submission.waiter })
            if (!joined)
              log.debug({
                event: 'job admitted',
                job: reply.job.id,
                target: target.name,
                prompt: asked.prompt,
              })
            return waiter
          }
        }
      }
    },

    get: read,

    async *watch(id, caller, signal) {
      const { entry, untrack } = track(id)
      try {
        begin(entry, await read(id, caller))
        yield* watchEntry(entry, signal)
      } finally {
        untrack()
      }
    },

    async cancel(id, caller) {
      await read(id, caller)
      const job = await book.event({ id, owner: caller.id, event: 'cancel' })
      if (!job) throw noSuchJob(quote(id))
      return job
    },

    check: () => valkey.check(),

    async drain({ timeoutMs }) {
      draining = true
      // Whoever waits gets a handle now, and follows it at another server.
      for (const { listeners } of followed.values()) for (const listener of listeners) listener()
      const until = Date.now() + timeoutMs
      const workers = [...lanes.values()].map(({ worker }) => worker)
      let paused = false
      for (;;) {
        if (!paused && !(await alone())) {
          paused = true
          await Promise.all(workers.map((worker) => worker.pause()))
        }
        const running = workers.some((worker) => worker.runs().length > 0)
        const waiting = [...lanes.values()].some(({ counts }) => counts.queued + counts.running > 0)
        if ((!running && (paused || !waiting)) || Date.now() > until) break
        await new Promise((resolve) => setTimeout(resolve, SWEEP_MS / 5))
      }
      if (!paused) await Promise.all(workers.map((worker) => worker.pause()))
      for (const worker of workers) worker.handBack()
      for (const over = Date.now() + STOP_MS; Date.now() < over; ) {
        if (workers.every((worker) => worker.runs().length === 0)) break
        await new Promise((resolve) => setTimeout(resolve, SWEEP_MS / 10))
      }
    },

    async close() {
      for (const timer of timers) clearInterval(timer)
      outlook.stop()
      await Promise.all([...lanes.values()].map(({ worker }) => worker.close({ timeoutMs: STOP_MS })))
      subscriber.disconnect()
      await valkey.close()
    },
  }

  /** True when no other server listens: nobody else would go on with what is queued. */
  async function alone(): Promise<boolean> {
    try {
      const [, servers] = await valkey.use((client) => client.pubsub('NUMSUB', book.channel))
      return Number(servers) <= 1
    } catch {
      return true
    }
  }
}

/** A name of fixed length for any text; parts cannot run into each other. */
function hashOf(...parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64url')
}
