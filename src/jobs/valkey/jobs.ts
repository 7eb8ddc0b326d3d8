/** Jobs in Valkey: any number of servers behave as one, and accepted work survives the death of any of them. */
import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { Identity } from '../../auth/caller.ts'
import type { Secret } from '../../auth/secret.ts'
import { quote } from '../../errors.ts'
import { connectValkey } from '../../valkey/connection.ts'
import { noSuchJob } from '../endings.ts'
import type { Job, Jobs, JobsOptions } from '../job.ts'
import { type Book, createBook } from './book/book.ts'
import { drainLanes } from './drain.ts'
import { createFollowedJobs, type FollowedJobs } from './followed.ts'
import { createLanes, type Lanes } from './lanes.ts'
import { joinPresence } from './presence.ts'
import { createSight } from './sight.ts'
import { createSteps } from './steps.ts'
import { createSubmit } from './submit.ts'
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
  const { targets, log, metrics, lockMs, prefix = 'diffusers-mcp' } = options
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
  const steps = createSteps({ book })
  const sight = createSight({ targets, book, server, leaseMs })
  const lanes = createLanes({
    targets,
    server,
    log,
    metrics,
    startWorker: (lane) =>
      createTargetWorker({ ...options, ...lane, valkey, book, steps, sight, server, prefix }),
  })
  const followed = createFollowedJobs({ read: (ids) => book.snapshots({ ids }) })
  const waiters = createWaiters({
    book,
    followed,
    leaseMs,
    persistMs: options.deadlineMs,
    isDraining: () => draining,
  })
  const upkeep = startUpkeep({ valkey, book, lanes, sight, followed, waiters, lockMs, leaseMs, log })
  metrics.observeQueue(lanes.queue)

  const subscriber = valkey.duplicate({ blocking: false })
  hearOthers({ subscriber, book, lanes, followed })
  const presence = joinPresence({ valkey, subscriber, channel: `${book.channel}:serving` })

  async function read(id: string, caller: Identity, { watch = false } = {}): Promise<Job> {
    const job = await book.get(id, { watch })
    if (job && job.owner === caller.id) return job
    throw noSuchJob(quote(id))
  }

  await valkey.connected

  return {
    queue: lanes.queue,

    submit: createSubmit({
      options,
      book,
      lanes,
      waiters,
      leaseMs,
      // What a draining server admits, the others run.
      isClosed: async () => draining && !(await presence.othersServe()),
    }),

    get: read,

    async *watch(id, caller, signal) {
      const following = followed.follow(id, { isOver: () => drained })
      try {
        following.begin(await read(id, caller, { watch: true }))
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
      steps.stop()
      await Promise.all(lanes.all().map(({ worker }) => worker.close({ timeoutMs: STOP_MS })))
      await sight.stop()
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
