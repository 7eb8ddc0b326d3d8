/** The rate limit of several servers on one Valkey: two limiters in one process, as two servers have them. */
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createRateLimit, type RateLimit } from '../../src/auth/rate-limit.ts'
import { fixedSecret } from '../../src/auth/secret.ts'
import { createSharedCount } from '../../src/auth/shared-count.ts'
import { sha256 } from '../../src/hash.ts'
import { eventually } from '../support/eventually.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

const LIMIT = 60
const callerOf = (id: string) => ({ caller: { id, scopes: new Set<never>() }, address: '192.0.2.1' })

describe.skipIf(findValkeyServer() === undefined)('servers that share a Valkey', () => {
  let valkey: ValkeyServer
  const closing: (() => Promise<void>)[] = []
  beforeAll(async () => {
    valkey = await startValkey()
  })
  afterEach(() => Promise.all(closing.splice(0).map((close) => close())))
  afterAll(() => valkey?.stop())

  /** A limiter as a server has it, whose connection stands. */
  async function server(perMinute = LIMIT): Promise<RateLimit> {
    const url = fixedSecret(valkey.url)
    const shared = createSharedCount({ url, perMinute, log: pino({ level: 'silent' }), settleMs: 1 })
    closing.push(shared.close)
    const limit = createRateLimit({ perMinute, shared })
    const probe = `probe ${Math.random()}`
    await eventually(async () => {
      limit.charge(callerOf(probe))
      expect(await keys()).not.toEqual([])
    })
    return limit
  }
  const keys = () => valkey.ask((client) => client.keys('diffusers-mcp:rate:*'))
  const passes = (limit: RateLimit, id: string) => {
    try {
      limit.charge(callerOf(id))
      return true
    } catch {
      return false
    }
  }

  test('a caller that used its limit up at one is refused by the other, and others are not', async () => {
    const [a, b] = [await server(), await server()]
    for (let n = 0; n < LIMIT; n += 1) expect(passes(a, 'alice')).toBe(true)
    await eventually(() => expect(passes(b, 'alice')).toBe(false))
    expect(passes(b, 'bob')).toBe(true)
    expect(() => b.charge(callerOf('alice'))).toThrow(
      expect.objectContaining({ code: 'rate_limited', retryAfterSeconds: expect.any(Number) }),
    )
  })

  test('what both let through before they heard of each other is a debt that both wait for', async () => {
    const [a, b] = [await server(), await server()]
    for (let n = 0; n < LIMIT; n += 1) for (const limit of [a, b]) expect(passes(limit, 'carol')).toBe(true)
    await eventually(() => {
      for (const limit of [a, b])
        expect(() => limit.charge(callerOf('carol'))).toThrow(
          // Half of a minute at least: a bucket that is only empty would give one back after a second.
          expect.objectContaining({ retryAfterSeconds: expect.toSatisfy((s: number) => s > 30) }),
        )
    })
  })

  test('many requests are one script, and a bucket that is full again leaves nothing behind', async () => {
    const limit = await server(60_000)
    const before = (await valkey.commandCalls()).hset ?? 0
    for (let n = 0; n < 1000; n += 1) passes(limit, 'dora')
    await eventually(async () => expect((await valkey.commandCalls()).hset ?? 0).toBeGreaterThan(before))
    expect(((await valkey.commandCalls()).hset ?? 0) - before).toBeLessThan(10)
    const key = `diffusers-mcp:rate:${sha256('caller dora', 'base64url')}`
    await eventually(async () => expect(await keys()).not.toContain(key))
  })

  test('while Valkey is away each server limits by itself', async () => {
    const limit = await server()
    await valkey.kill()
    let count = 0
    while (passes(limit, 'erin')) count += 1
    expect(count).toBe(LIMIT)
    await valkey.restart()
  })
})
