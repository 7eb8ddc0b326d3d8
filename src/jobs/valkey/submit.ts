/** Submissions to the book: an accepted one becomes a waiter, a refused one an error that says what to do. */
import { randomInt, randomUUID } from 'node:crypto'
import { type Identity, isAnonymous, mayReturn } from '../../auth/caller.ts'
import { type ImageRequest, SEED_RANGE } from '../../runtimes/request.ts'
import { RESERVE_BYTES } from '../../valkey/memory.ts'
import { isTest, refusal } from '../admission.ts'
import { withoutPrompts } from '../ended.ts'
import { keyConflict, shuttingDown, storeFull } from '../endings.ts'
import type { Jobs, JobsOptions, Refusal, SubmitOptions, Waiter } from '../job.ts'
import { canonical, chooseTarget, hashOf, withDefaults } from '../request-of-job.ts'
import type { Book, Submission, Submitted } from './book/book.ts'
import { fieldTexts } from './book/rows.ts'
import type { Lane, Lanes } from './lanes.ts'
import type { Waiters } from './waiters.ts'

/**
 * Makes `Jobs.submit`.
 * @param parts.leaseMs how long the lease of a waiter lasts, in milliseconds.
 * @param parts.isClosed true while nothing new is admitted, because nobody would run it.
 */
export function createSubmit(parts: {
  readonly options: JobsOptions
  readonly book: Book
  readonly lanes: Lanes
  readonly waiters: Waiters
  readonly leaseMs: number
  readonly isClosed: () => Promise<boolean>
}): Jobs['submit'] {
  const { options, book, lanes, waiters, leaseMs, isClosed } = parts
  const { targets, images, log, metrics } = options

  return async (asked, caller, submitOptions = {}) => {
    const target = chooseTarget(targets, asked.model)
    const refuse = (reason: Refusal, error: Error): never => {
      metrics.jobsRefused.inc({ target: target.name, reason })
      throw error
    }

    /** A waiter; undefined where the answer is out of date. `expected` is the job's follower. */
    async function take(
      reply: Submitted,
      asking: { lease: string; expected: ReturnType<Waiters['expect']>; trouble: Error | undefined },
    ): Promise<Waiter | undefined> {
      const { lease, expected, trouble } = asking
      switch (reply.verdict) {
        case 'conflict':
          return refuse('conflict', keyConflict())
        case 'closed':
          return refuse('overloaded', trouble ?? shuttingDown())
        case 'storeFull':
          return refuse('overloaded', storeFull())
        case 'refused': {
          const error = refusal({ target: target.name, because: reply.because, view: reply.view })
          return refuse(error.code as Refusal, error)
        }
        case 'succeeded':
          if (await images.head(reply.job.imageId)) return expected.add(reply.job, { joined: true })
          // Its picture was deleted meanwhile: the first who asks makes it anew, once.
          await book.forget({ id: reply.job.id })
          return undefined
        case 'joined':
          return expected.add(reply.job, { joined: true, lease })
        case 'admitted':
          log.debug({ event: 'job admitted', job: reply.job.id, target: target.name, prompt: asked.prompt })
          return expected.add(reply.job, { joined: false, lease })
      }
    }

    for (;;) {
      const lane = lanes.get(target.name)
      // Other servers may see replicas that this one does not.
      const trouble =
        images.trouble?.() ?? (lane.counts.concurrency === 0 ? target.pool.trouble() : undefined)
      const submission = {
        ...submissionOf({ asked, caller, lane: lanes.get(target.name), options, submitOptions }),
        leaseMs,
        // A picture that no store would take is not begun.
        closed: trouble !== undefined || (await isClosed()),
        reserve: RESERVE_BYTES,
      }
      const expected = waiters.expect(submission.id)
      try {
        const reply = await book.submit(submission)
        if (reply.verdict === 'admitted' && isTest(submission))
          lanes.get(target.name).figures.tested(withDefaults(asked, target))
        const waiter = await take(reply, { lease: submission.waiter, expected, trouble })
        if (waiter) return waiter
      } finally {
        expected.stop()
      }
    }
  }
}

/** What a caller asked for as the book takes it: its ids, its seed and what it costs are fixed here. */
function submissionOf(parts: {
  readonly asked: ImageRequest
  readonly caller: Identity
  readonly lane: Lane
  readonly options: JobsOptions
  readonly submitOptions: SubmitOptions
}): Omit<Submission, 'leaseMs' | 'closed' | 'reserve'> {
  const { asked, caller, lane, options, submitOptions } = parts
  const { target, figures } = lane
  const { idempotencyKey, requestId, deadlineMs = options.deadlineMs } = submitOptions
  const wanted = withDefaults(asked, target)
  const request = { seed: randomInt(SEED_RANGE), ...wanted }
  return {
    id: randomUUID(),
    imageId: randomUUID(),
    owner: caller.id,
    anonymous: isAnonymous(caller),
    target: target.name,
    request: JSON.stringify(request),
    sizes: fieldTexts(withoutPrompts(request)),
    requestHash: hashOf(caller.id, target.name, canonical(wanted)),
    seeded: asked.seed !== undefined,
    key: idempotencyKey === undefined ? undefined : hashOf(caller.id, idempotencyKey),
    requestId,
    waiter: randomUUID(),
    deadlineMs,
    graceMs: mayReturn(caller) ? options.orphanGraceMs : 0,
    ttlMs: options.ttlSeconds * 1000,
    cost: figures.costOf(wanted),
    ...figures.forecast(wanted),
    model: figures.workModel(),
    queueLimit: target.queue,
    queueLimitOfCaller: isAnonymous(caller) ? target.queue : target.queuePerCaller,
  }
}
