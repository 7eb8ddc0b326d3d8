/** Limits the requests of each caller with a token bucket, in this process. */
import { AppError } from '../errors.ts'
import { networkOf } from './address.ts'
import { type Caller, isAnonymous } from './caller.ts'

/** Buckets kept at once. The caller that was idle longest is forgotten, and starts again with a full bucket. */
const MAX_BUCKETS = 10_000

const MINUTE_MS = 60_000

export interface Asker {
  /** Absent after a failed authentication. */
  readonly caller?: Caller
  /** The peer address of the connection, never one from a header; undefined where there is none. */
  readonly address: string | undefined
}

export interface RateLimit {
  /**
   * Charges one request or message to its caller. Anonymous callers are charged by network, so that one network
   * cannot use up the limit of another.
   * @throws AppError `rate_limited` with the time until the next one is allowed.
   */
  charge(asker: Asker): void
}

interface Bucket {
  left: number
  /** When `left` was computed, in milliseconds. */
  at: number
}

/**
 * A limit of `perMinute` requests per minute, which is also the largest burst; 0 turns it off.
 * @param options `now` returns milliseconds.
 */
export function createRateLimit(options: {
  readonly perMinute: number
  readonly maxBuckets?: number
  readonly now?: () => number
}): RateLimit {
  const { perMinute, maxBuckets = MAX_BUCKETS, now = () => performance.now() } = options
  if (perMinute === 0) return { charge: () => {} }
  const perMs = perMinute / MINUTE_MS
  // Ordered by last use: the first one was idle longest.
  const buckets = new Map<string, Bucket>()

  return {
    charge({ caller, address }) {
      const key =
        caller && !isAnonymous(caller) ? `caller ${caller.id}` : `network ${networkOf(address ?? 'unknown')}`
      const at = now()
      const bucket = buckets.get(key) ?? { left: perMinute, at }
      const left = Math.min(perMinute, bucket.left + (at - bucket.at) * perMs)
      buckets.delete(key)
      buckets.set(key, { left: left < 1 ? left : left - 1, at })
      if (buckets.size > maxBuckets) buckets.delete(buckets.keys().next().value as string)
      if (left < 1)
        throw new AppError(
          'rate_limited',
          `You sent more than the ${perMinute} requests per minute that one caller may send here (RATE_LIMIT_PER_MINUTE).`,
          { retryAfterSeconds: (1 - left) / perMs / 1000 },
        )
    },
  }
}
