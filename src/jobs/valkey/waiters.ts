/**
 * Those who wait for a job at this server. Each holds a lease in the book, which this server renews while it lives: a
 * waiter whose server died counts as gone when its lease runs out.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Job, Waiter } from '../job.ts'
import type { Book } from './book/book.ts'
import type { FollowedJobs, Following } from './followed.ts'

/** Pause between two attempts to hand out a handle, and the longest that a caller waits for one; milliseconds. */
const RETRY_MS = 500

export type Waiters = ReturnType<typeof createWaiters>

interface Waiting {
  readonly joined: boolean
  /** The waiter's id in the book; absent where nothing is left to wait for. */
  readonly lease?: string
}

/**
 * Nobody waits yet.
 * @param options.leaseMs how long a lease lasts, in milliseconds.
 * @param options.persistMs how long a handle is insisted on while Valkey is away, in milliseconds.
 */
export function createWaiters(options: {
  readonly book: Book
  readonly followed: FollowedJobs
  readonly leaseMs: number
  readonly persistMs: number
  readonly isDraining: () => boolean
}) {
  const { book, followed, leaseMs, persistMs, isDraining } = options
  /** Job ids by lease. */
  const leases = new Map<string, string>()

  /** Tries until Valkey answers or the time is up; a server that drains tries once. */
  async function insist(act: () => Promise<unknown>): Promise<void> {
    const until = performance.now() + persistMs
    for (;;) {
      try {
        await act()
        return
      } catch {
        if (performance.now() > until || isDraining()) return
        await pause()
      }
    }
  }

  const follow = (id: string) => followed.follow(id, { isOver: isDraining })

  function wait(following: Following, { job, joined, lease }: { job: Job } & Waiting): Waiter {
    if (lease !== undefined) leases.set(lease, job.id)
    let detached: Promise<unknown> = Promise.resolve()
    let left = false

    /** If this fails, the lease runs out. */
    async function giveUp(held: string): Promise<void> {
      await detached
      leases.delete(held)
      await book.leave({ id: job.id, waiter: held }).catch(() => {})
    }

    return {
      get job() {
        return following.job
      },
      joined,
      watch: following.watch,
      async detach() {
        // The handle is out: while Valkey is away the lease keeps the job, and this goes on in the background.
        detached = insist(() => book.event({ id: job.id, owner: job.owner, event: 'detach' }))
        await Promise.race([detached, pause()])
      },
      async leave() {
        if (left) return
        left = true
        following.stop()
        if (lease !== undefined) await Promise.race([giveUp(lease), pause()])
      },
    }
  }

  return {
    /**
     * Listens for a job that is about to be submitted, so that nothing is missed while the book's answer is on its way,
     * and the job need not be read again.
     */
    expect(id: string) {
      const following = follow(id)
      let isTaken = false
      return {
        /** A waiter for the job that the book answered: the expected one, or one that it joins. */
        add(job: Job, waiting: Waiting): Waiter {
          isTaken = job.id === id
          const own = isTaken ? following : follow(job.id)
          own.begin(job, { missed: !isTaken })
          return wait(own, { job, ...waiting })
        },
        /** To be called when no more is added. */
        stop(): void {
          if (!isTaken) following.stop()
        },
      }
    },

    /** Says that everybody who waits here is still there. @throws AppError `overloaded` while Valkey is away. */
    async renew(): Promise<void> {
      if (leases.size === 0) return
      const waiters = [...leases].map(([lease, id]) => [id, lease] as const)
      const over = new Set(await book.renew({ waiters, leaseMs }))
      for (const [lease, id] of leases) if (over.has(id)) leases.delete(lease)
      for (const id of over) void followed.refresh(id)
    },
  }
}

const pause = () => sleep(RETRY_MS, undefined, { ref: false })
