/** Limits the requests of each caller with a token bucket in this process, and beyond it by what all servers count. */
import { AppError } from '../errors.ts'
import { networkOf } from './address.ts'
import { type Caller, isAnonymous } from './caller.ts'

/** Buckets kept at once. The caller that was idle longest is forgotten, and starts again with a full bucket. */
const MAX_BUCKETS = 10_000

export const MINUTE_MS = 60_000

export interface Asker {
  /** Absent after a failed authentication, and where a signed link was used. */
  readonly caller?: Caller
  /** The peer address of the connection, never one from a header; undefined where there is none. */
  readonly address: string | undefined
}

/** Whose counter an asker uses: a caller's own, or that of the network where callers cannot be told apart. */
export function counterOf({ caller, address }: Asker): string {
  return caller && !isAnonymous(caller) ? `caller ${caller.id}` : `network ${networkOf(address ?? 'unknown')}`
}

export interface RateLimit {
  /**
   * Charges one request or message to its caller. Anonymous callers are charged by network, so that one network
   * cannot use up the limit of another.
   * @throws AppError `rate_limited` with the time until the next one is allowed.
   */
  charge(asker: Asker): void
}

/** What all servers count together; see shared-count.ts. */
export interface SharedCount {
  /** Milliseconds until the counter allows one more; 0: now. */
  waitMs(counter: string): number
  /** Counts one. */
  add(counter: string): void
}

interface Bucket {
  left: number
  /** When `left` was computed, in milliseconds. */
  at: number
}

/**
 * A limit of `perMinute` requests per minute, which is also the largest burst; 0 turns it off.
 * @param options `now` returns milliseconds. `shared` refuses too; without it, or while it knows nothing, this process
 * counts alone.
 */
export function createRateLimit(options: {
  readonly perMinute: number
  readonly shared?: SharedCount
  readonly maxBuckets?: number
  readonly now?: () => number
}): RateLimit {
  const { perMinute, shared, maxBuckets = MAX_BUCKETS, now = () => performance.now() } = options
  if (perMinute === 0) return { charge: () => {} }
  const perMs = perMinute / MINUTE_MS
  // Ordered by last use: the first one was idle longest.
  const buckets = new Map<string, Bucket>()

  return {
    charge(asker) {
      const counter = counterOf(asker)
      const at = now()
      const bucket = buckets.get(counter) ?? { left: perMinute, at }
      const left = Math.min(perMinute, bucket.left + (at - bucket.at) * perMs)
      const waitMs = left < 1 ? (1 - left) / perMs : (shared?.waitMs(counter) ?? 0)
      buckets.delete(counter)
      buckets.set(counter, { left: waitMs > 0 ? left : left - 1, at })
      if (buckets.size > maxBuckets) buckets.delete(buckets.keys().next().value as string)
      if (waitMs > 0)
        throw new AppError(
          'rate_limited',
          `You sent more than the ${perMinute} requests per minute that one caller may send here (RATE_LIMIT_PER_MINUTE).`,
          { retryAfterSeconds: waitMs / 1000 },
        )
      shared?.add(counter)
    },
  }
}
