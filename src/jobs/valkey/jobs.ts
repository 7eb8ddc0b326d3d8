/** Jobs in Valkey: any number of servers behave as one, and accepted work survives the death of any of them. */
import { randomInt, randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { type Identity, isAnonymous } from '../../auth/caller.ts'
import type { Secret } from '../../auth/secret.ts'
import { quote } from '../../errors.ts'
import { sha256 } from '../../hash.ts'
import { type ImageRequest, SEED_RANGE } from '../../runtimes/request.ts'
import { connectValkey } from '../../valkey/connection.ts'
import { isTest, refusal } from '../admission.ts'
import { keyConflict, noSuchJob, shuttingDown } from '../endings.ts'
import type { Job, Jobs, JobsOptions, Refusal, SubmitOptions } from '../job.ts'
import { canonical, chooseTarget, withDefaults } from '../request-of-job.ts'
import { type Book, createBook, type Submission } from './book/book.ts'
import { drainLanes } from './drain.ts'
import { createFollowedJobs, type FollowedJobs } from './followed.ts'
import { createLanes, type Lane, type Lanes } from './lanes.ts'
import { joinPresence } from './presence.ts'
import { createTargetWorker } from './target-worker.ts'
import { startUpkeep } from './upkeep.ts'
import { createWaiters } from './waiters.ts'

/** A waiter counts as gone when its server was silent for this many locks. */
const LOCKS_PER_LEASE = 2
/** How long connections may take to close, in milliseconds. */
const STOP_MS = 5000

export interface ValkeyJobsOptions extends JobsOptions {
  readonly url: Secret
  /** A run whose server was silent for this long is begun again by another one, in milliseconds. */
  readonly lockMs: number
  /** How often a job may be begun again after its server died. */
  readonly maxReruns: number
  /** First part of every key; absent: `diffusers-mcp`. */
  readonly prefix?: string
}

/**
 * A job backend over Valkey or Redis. Waits some seconds for it; while it is away, at the start or later, new work is
 * refused with `overloaded`, runs go on, and they are reported when it is back. Needs one server (a primary with
 * replicas is fine, Valkey Cluster is not).
 */
export async function createValkeyJobs(options: ValkeyJobsOptions): Promise<Jobs> {
  const { targets, images, log, metrics, lockMs, prefix = 'diffusers-mcp' } = options
  const server = randomUUID()
  const leaseMs = lockMs * LOCKS_PER_LEASE
  let draining = false
  /** Draining is over: nothing is left to wait for here. */
  let drained = false

  const valkey = connectValkey({
    url: options.url,
    what: 'job store',
    log,
    onReady: () => void upkeep.reconnected(),
  })
  const book = createBook({
    valkey,
    prefix,
    onEffects: (effects) => lanes.follow(effects),
  })
  const lanes = createLanes({
    targets,
    server,
    log,
    metrics,
    startWorker: (lane) => createTargetWorker({ ...options, ...lane, valkey, book, server, prefix }),
  })
  const followed = createFollowedJobs({ read: book.get })
  const waiters = createWaiters({
    book,
    followed,
    leaseMs,
    persistMs: options.deadlineMs,
    isDraining: () => draining,
  })
  const upkeep = startUpkeep({ valkey, book, lanes, followed, waiters, lockMs, leaseMs, log })
  metrics.observeQueue(lanes.queue)

  const subscriber = valkey.duplicate({ blocking: false })
  hearOthers({ subscriber, book, lanes, followed })
  const presence = joinPresence({ valkey, subscriber, channel: `${book.channel}:serving` })

  async function read(id: string, caller: Identity): Promise<Job> {
    const job = await book.get(id)
    if (job && job.owner === caller.id) return job
    throw noSuchJob(quote(id))
  }

  await valkey.connected

  return {
    queue: lanes.queue,

    async submit(asked, caller, submitOptions = {}) {
      const target = chooseTarget(targets, asked.model)
      const refuse = (reason: Refusal, error: Error): never => {
        metrics.jobsRefused.inc({ target: target.name, reason })
        throw error
      }
      for (;;) {
        const trouble = images.trouble?.()
        const submission = {
          ...submissionOf({ asked, caller, lane: lanes.get(target.name), options, submitOptions }),
          leaseMs,
          // What a draining server admits, the others run. A picture that no store would take is not begun.
          closed: trouble !== undefined || (draining && !(await presence.othersServe())),
        }
        const reply = await book.submit(submission)
        switch (reply.verdict) {
          case 'conflict':
            return refuse('conflict', keyConflict())
          case 'closed':
            return refuse('overloaded', trouble ?? shuttingDown())
          case 'refused': {
            const error = refusal({ target: target.name, because: reply.because, view: reply.view })
            return refuse(error.code as Refusal, error)
          }
          case 'succeeded':
            if (await images.head(reply.job.imageId)) return waiters.add(reply.job, { joined: true })
            // Its picture was deleted meanwhile: the first who asks makes it anew, once.
            await book.forget({ id: reply.job.id })
            break
          case 'joined':
            return waiters.add(reply.job, { joined: true, lease: submission.waiter })
          case 'admitted':
            if (isTest(submission)) lanes.get(target.name).figures.tested(withDefaults(asked, target))
            log.debug({
              event: 'job admitted',
              job: reply.job.id,
              target: target.name,
              prompt: asked.prompt,
            })
            return waiters.add(reply.job, { joined: false, lease: submission.waiter })
        }
      }
    },

    get: read,

    async *watch(id, caller, signal) {
      const following = followed.follow(id, { isOver: () => drained })
      try {
        following.begin(await read(id, caller))
        yield* following.watch(signal)
      } finally {
        following.stop()
      }
    },

    async cancel(id, caller) {
      await read(id, caller)
      const job = await book.event({ id, owner: caller.id, event: 'cancel' })
      if (!job) throw noSuchJob(quote(id))
      return job
    },

    check: () => valkey.check(),
    othersServe: presence.othersServe,
    isCutOff: () => valkey.isAway(),

    async drain({ timeoutMs }) {
      draining = true
      await presence.leave()
      // Those who wait get a handle now, and follow it at another server.
      followed.wakeAll()
      await drainLanes({ lanes, timeoutMs, othersServe: presence.othersServe })
      drained = true
      followed.wakeAll()
    },

    async close() {
      upkeep.stop()
      followed.stop()
      await Promise.all(lanes.all().map(({ worker }) => worker.close({ timeoutMs: STOP_MS })))
      subscriber.disconnect()
      await valkey.close()
    },
  }
}

/** Follows up what all servers publish. What was said while nobody listened is read instead. */
function hearOthers(parts: {
  readonly subscriber: Redis
  readonly book: Book
  readonly lanes: Lanes
  readonly followed: FollowedJobs
}): void {
  const { subscriber, book, lanes, followed } = parts
  subscriber.on('message', (_channel, message) => {
    const changes = book.readChanges(message)
    lanes.hear(changes)
    followed.hear(changes)
  })
  subscriber.on('ready', () => followed.refreshAll())
  void subscriber.subscribe(book.channel).catch(() => {})
}

/** What a caller asked for as the book takes it: its ids, its seed and what it costs are fixed here. */
function submissionOf(parts: {
  readonly asked: ImageRequest
  readonly caller: Identity
  readonly lane: Lane
  readonly options: JobsOptions
  readonly submitOptions: SubmitOptions
}): Omit<Submission, 'leaseMs' | 'closed'> {
  const { asked, caller, lane, options, submitOptions } = parts
  const { target, figures } = lane
  const { idempotencyKey, requestId, deadlineMs = options.deadlineMs } = submitOptions
  const anonymous = isAnonymous(caller)
  const wanted = withDefaults(asked, target)
  return {
    id: randomUUID(),
    imageId: randomUUID(),
    owner: caller.id,
    anonymous,
    target: target.name,
    request: JSON.stringify({ seed: randomInt(SEED_RANGE), ...wanted }),
    requestHash: hashOf(caller.id, target.name, canonical(wanted)),
    seeded: asked.seed !== undefined,
    key: idempotencyKey === undefined ? undefined : hashOf(caller.id, idempotencyKey),
    requestId,
    waiter: randomUUID(),
    deadlineMs,
    graceMs: anonymous ? 0 : options.orphanGraceMs,
    ttlMs: options.ttlSeconds * 1000,
    cost: figures.costOf(wanted),
    ...figures.forecast(wanted),
    model: figures.workModel(),
    concurrency: target.concurrency,
    queueLimit: target.queue,
    queueLimitOfCaller: anonymous ? target.queue : target.queuePerCaller,
  }
}

/** A name of fixed length for any text; parts cannot run into each other. */
function hashOf(...parts: readonly string[]): string {
  return sha256(JSON.stringify(parts), 'base64url')
}
