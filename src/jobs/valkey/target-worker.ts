/**
 * Takes jobs that got a slot. BullMQ carries them to the workers of all servers and hands on what a dead worker had in
 * hand; whether a run may go on, and what comes of it, is the book's to say.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Queue, WaitingError, Worker } from 'bullmq'
import { AppError } from '../../errors.ts'
import type { Valkey } from '../../valkey/connection.ts'
import { HandedBack, Lost, type RunParts, runJob } from './run.ts'

/** Pause between two attempts to reach Valkey, and between two looks at a job that another worker holds; ms. */
const RETRY_MS = 250
/** Renewals per lock of a delivery: two may get lost. */
const RENEWALS = 3
/**
 * Deliveries that one server has in hand at most. The book gives out no more than there are slots, whichever they are
 * and however many come, so BullMQ needs no bound of its own.
 */
const AT_ONCE = 1_000_000
/** Locks that one script renews at most: Valkey serves nobody else meanwhile. */
const RENEW_AT_ONCE = 200

interface Run {
  readonly number: number
  readonly abort: AbortController
}

export interface WorkerParts extends RunParts {
  readonly valkey: Valkey
  readonly prefix: string
  /** A run whose worker was silent for this long is handed on, in milliseconds. */
  readonly lockMs: number
}

export type TargetWorker = ReturnType<typeof createTargetWorker>

/** The worker of one target in this server: runs whatever has a slot, up to all of them if no other server does. */
export function createTargetWorker(parts: WorkerParts) {
  const { target, valkey, book, prefix, lockMs, maxReruns, log } = parts
  const runs = new Map<string, Run>()
  /** Deliveries in hand: BullMQ's ids by its tokens. */
  const deliveries = new Map<string, string>()
  let closing = false
  let handing = false

  // A lost connection is told once, by the connection itself; a lost lock is found by the book.
  const quiet = (error: Error) => log.debug({ event: 'bullmq', target: target.name, message: error.message })

  const connection = valkey.duplicate({ blocking: true })
  const queue = new Queue(target.name, { connection: valkey.client, prefix, skipVersionCheck: true })
  const worker = new Worker(
    target.name,
    async (delivery, token = '') => {
      deliveries.set(token, delivery.id as string)
      try {
        if ((await handle(delivery.data, token)) === 'done') return
        await delivery.moveToWait(token)
        throw new WaitingError()
      } finally {
        deliveries.delete(token)
      }
    },
    {
      connection,
      prefix,
      skipVersionCheck: true,
      concurrency: AT_ONCE,
      lockDuration: lockMs,
      skipLockRenewal: true,
      stalledInterval: lockMs / 2,
      // The book counts re-runs, because it can tell a stopped server from a dead one.
      maxStalledCount: Number.MAX_SAFE_INTEGER,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
      runRetryDelay: RETRY_MS,
    },
  )
  worker.on('error', quiet)
  queue.on('error', quiet)

  // BullMQ's own renewal goes by the wall clock, and stops for an hour when that is set back an hour.
  const renewal = setInterval(() => void renewLocks(), lockMs / RENEWALS)
  renewal.unref()
  let isRenewing = false

  async function renewLocks(): Promise<void> {
    if (isRenewing) return
    isRenewing = true
    try {
      const held = [...deliveries]
      for (let at = 0; at < held.length; at += RENEW_AT_ONCE) {
        const slice = held.slice(at, at + RENEW_AT_ONCE).filter(([token]) => deliveries.has(token))
        const ids = slice.map(([, id]) => id)
        const tokens = slice.map(([token]) => token)
        const lost = new Set(await worker.extendJobLocks(ids, tokens, lockMs))
        for (const [token, id] of slice)
          if (lost.has(id) && deliveries.has(token)) quiet(new Error(`lost the lock of ${id}`))
      }
    } catch (error) {
      quiet(error as Error)
    } finally {
      isRenewing = false
    }
  }

  /** Tries until Valkey answers, so that nothing that was done is lost; gives up when the server closes. */
  async function persist<T>(act: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await act()
      } catch (error) {
        if (closing || !(error instanceof AppError && error.code === 'overloaded')) throw error
        await sleep(RETRY_MS)
      }
    }
  }

  /** One delivery. done: nothing is left to do with it; back: another worker may have it. */
  async function handle(
    { id, grant }: { id: string; grant: number },
    attempt: string,
  ): Promise<'done' | 'back'> {
    for (;;) {
      if (handing) return 'back'
      const exhausted = JSON.stringify(rerunsUsedUp(maxReruns).toPublic())
      const started = await persist(() =>
        book.start({ id, target: target.name, grant, attempt, lockMs, maxReruns, exhausted }),
      )
      if (started.verdict === 'ended') return 'done'
      if (started.verdict === 'held') {
        await sleep(Math.min(started.waitMs + 1, RETRY_MS))
        continue
      }
      if (handing) {
        await book.handback({ id, run: started.run }).catch(() => {})
        return 'back'
      }
      const abort = new AbortController()
      const run = { number: started.run, abort }
      runs.set(id, run)
      try {
        return await runJob({ started, abort, persist }, parts)
      } finally {
        // Its next run, on another replica, may have begun here.
        if (runs.get(id) === run) runs.delete(id)
      }
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
    /**
     * Sends a job to whichever worker is free; what fails here is repeated by any server's sweep. Each grant is a delivery
     * of its own: the one before may still be in a worker's hand.
     */
    async deliver(id: string, grant: number): Promise<void> {
      const options = { jobId: `${id}-${grant}`, removeOnComplete: true, removeOnFail: true }
      await queue.add('generation', { id, grant }, options)
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
        sleep(timeoutMs, undefined, { ref: false }),
      ])
      clearInterval(renewal)
      connection.disconnect()
    },
  }
}

/** The job's runs died with their servers too often. */
function rerunsUsedUp(maxReruns: number): AppError {
  return new AppError(
    'runtime_failed',
    `The picture was begun ${maxReruns + 1} times, and each time the server that made it died. Ask for it again, or for something smaller.`,
  )
}
