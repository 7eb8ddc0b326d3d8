/** What a server does on its own while it lives: it renews what it holds, and does what nobody else is sure to do. */

import type { Logger } from '../../telemetry/log.ts'
import { risksOf, type Valkey } from '../../valkey/connection.ts'
import type { Book } from './book/book.ts'
import type { FollowedJobs } from './followed.ts'
import type { Lanes } from './lanes.ts'
import type { Sight } from './sight.ts'
import type { Waiters } from './waiters.ts'

/** Deadlines, orphans and lost deliveries are looked for this often, in milliseconds. */
const SWEEP_MS = 500
/** Renewals per lock or lease: two may get lost. */
const BEATS = 3

export type Upkeep = ReturnType<typeof startUpkeep>

/**
 * Starts the timers.
 * @param options.lockMs a run whose server was silent for this long is another's, in milliseconds.
 * @param options.leaseMs a waiter whose server was silent for this long counts as gone, in milliseconds.
 */
export function startUpkeep(options: {
  readonly valkey: Valkey
  readonly book: Book
  readonly lanes: Lanes
  readonly sight: Sight
  readonly followed: FollowedJobs
  readonly waiters: Waiters
  readonly lockMs: number
  readonly leaseMs: number
  readonly log: Logger
}) {
  const { valkey, book, lanes, sight, followed, waiters, lockMs, leaseMs, log } = options
  /** Since when (`performance.now()`) Valkey answered without a gap: only then is the silence of others theirs. */
  let steadySince: number | undefined

  async function sweep(): Promise<void> {
    const leases = steadySince !== undefined && performance.now() - steadySince > leaseMs
    try {
      await book.sweep({ leases, targets: lanes.all().map(({ target }) => target.name) })
      steadySince ??= performance.now()
    } catch {
      steadySince = undefined
    }
  }

  async function beat(): Promise<void> {
    const runs = lanes.all().flatMap(({ worker }) => worker.runs())
    if (runs.length === 0) return
    const lost = await book.beat({ runs, lockMs })
    for (const { worker } of lanes.all()) for (const id of lost) worker.abort(id)
  }

  const timers = [
    setInterval(() => void sweep(), SWEEP_MS),
    setInterval(() => void beat().catch(() => {}), lockMs / BEATS),
    setInterval(() => void sight.tellAll().catch(() => {}), leaseMs / BEATS),
    setInterval(() => void waiters.renew().catch(() => {}), leaseMs / BEATS),
  ]
  for (const timer of timers) timer.unref()

  return {
    /** Valkey is there, at the start or again: tells it the replicas, and catches up with what happened meanwhile. */
    async reconnected(): Promise<void> {
      steadySince = undefined
      lanes.reconnected()
      try {
        // Before anything else is asked: without replicas there are no slots.
        await sight.tellAll()
        for (const { target, figures } of lanes.all()) {
          const samples = await book.target({ target: target.name })
          // After the first connect the messages of the channel teach.
          if (figures.report().service_ms === undefined)
            for (const sample of samples.toReversed()) figures.observe(JSON.parse(sample))
        }
        await beat()
        await waiters.renew()
        followed.refreshAll()
        for (const { setting, is, risk } of risksOf(await valkey.use((client) => client.info())))
          log.error({ event: 'JOBS MAY BE LOST', setting: `set ${setting}`, is, risk })
      } catch (error) {
        log.debug({ event: 'upkeep failed', message: (error as Error).message })
      }
    },
    stop(): void {
      for (const timer of timers) clearInterval(timer)
    },
  }
}
