/**
 * The rate limit of all servers together: token buckets in Valkey. No request waits for them. Each server lets requests
 * through, tells Valkey some milliseconds later how many, and refuses a caller as soon as the answer says that its bucket
 * is empty. What servers let through meanwhile is a debt that the caller waits for.
 */
import { readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers'
import type { Redis } from 'ioredis'
import { sha256 } from '../hash.ts'
import type { Logger } from '../telemetry/log.ts'
import { connectValkey } from '../valkey/connection.ts'
import { MINUTE_MS, type SharedCount } from './rate-limit.ts'
import type { Secret } from './secret.ts'

const SCRIPT = readFileSync(new URL('./shared-count.lua', import.meta.url), 'utf8')
/** The longest that a request stays untold, besides the round trip, in milliseconds. */
const SETTLE_MS = 50
/** Counters in one script, which runs for about a millisecond then. */
const MAX_BATCH = 500
/** Empty buckets that this process remembers; without one it asks again. */
const MAX_EMPTY = 10_000

/** A script per batch. */
type Client = Redis & Record<'spend', (keys: number, ...args: (string | number)[]) => Promise<string[]>>

/**
 * Counts over all servers on this Valkey, on a connection of its own. While Valkey is away it allows everything, and each
 * server's own bucket is the limit.
 */
export function createSharedCount(options: {
  readonly url: Secret
  readonly perMinute: number
  readonly log: Logger
  readonly prefix?: string
  readonly settleMs?: number
}): SharedCount & { close(): Promise<void> } {
  const { url, perMinute, log, prefix = 'diffusers-mcp', settleMs = SETTLE_MS } = options
  const perMs = perMinute / MINUTE_MS
  const valkey = connectValkey({
    url,
    what: 'shared rate limit',
    effect: 'each server limits by itself until it is back',
    log,
  })
  valkey.client.defineCommand('spend', { lua: SCRIPT })
  /** By counter: what Valkey has not been told. */
  let spent = new Map<string, number>()
  /** By counter: when it allows one more, by `performance.now()`. */
  const emptyUntil = new Map<string, number>()
  let timer: NodeJS.Timeout | undefined
  let settling = false

  function scheduleSettle(): void {
    if (timer || settling || spent.size === 0) return
    timer = setTimeout(() => void settle(), settleMs)
    timer.unref()
  }

  async function settle(): Promise<void> {
    timer = undefined
    settling = true
    const told = [...spent]
    spent = new Map()
    try {
      for (let at = 0; at < told.length; at += MAX_BATCH) await tell(told.slice(at, at + MAX_BATCH))
    } catch {
      // The connection has said so. This server's own buckets have counted the requests too.
    }
    settling = false
    scheduleSettle()
  }

  async function tell(batch: readonly [counter: string, count: number][]): Promise<void> {
    // A hash, because a caller's name may be long, and has no place in the keys.
    const keys = batch.map(([counter]) => `${prefix}:rate:${sha256(counter, 'base64url')}`)
    const lefts = await valkey.use((client) =>
      (client as Client).spend(keys.length, ...keys, perMinute, ...batch.map(([, count]) => count)),
    )
    const at = performance.now()
    for (const [index, [counter]] of batch.entries()) {
      const left = Number(lefts[index])
      emptyUntil.delete(counter)
      if (left < 1) emptyUntil.set(counter, at + (1 - left) / perMs)
    }
    while (emptyUntil.size > MAX_EMPTY) emptyUntil.delete(emptyUntil.keys().next().value as string)
  }

  return {
    waitMs(counter) {
      const until = emptyUntil.get(counter)
      if (until === undefined || valkey.isAway()) return 0
      const waitMs = until - performance.now()
      if (waitMs > 0) return waitMs
      emptyUntil.delete(counter)
      return 0
    },
    add(counter) {
      if (valkey.isAway()) return
      spent.set(counter, (spent.get(counter) ?? 0) + 1)
      scheduleSettle()
    },
    async close() {
      clearTimeout(timer)
      await valkey.close()
    },
  }
}
