import { describe, expect, test } from 'vitest'
import { networkOf } from './address.ts'
import { ANONYMOUS, type Caller } from './caller.ts'
import { createRateLimit, type RateLimit } from './rate-limit.ts'

const callerOf = (id: string): Caller => ({ id, scopes: new Set() })
const ALICE = { caller: callerOf('alice'), address: '192.0.2.1' }
const BOB = { caller: callerOf('bob'), address: '192.0.2.1' }

/** How many of `tries` charges pass. */
const passed = (limit: RateLimit, asker: Parameters<RateLimit['charge']>[0], tries = 20) => {
  let count = 0
  for (let index = 0; index < tries; index += 1)
    try {
      limit.charge(asker)
      count += 1
    } catch {}
  return count
}

test('allows a minute’s worth at once, then as many as time brings back', () => {
  let now = 0
  const limit = createRateLimit({ perMinute: 6, now: () => now })
  expect(passed(limit, ALICE)).toBe(6)
  now += 20_000
  expect(passed(limit, ALICE)).toBe(2)
  now += 3_600_000
  expect(passed(limit, ALICE)).toBe(6)
})

test('says in whole seconds when the next one is allowed', () => {
  let now = 0
  const limit = createRateLimit({ perMinute: 6, now: () => now })
  passed(limit, ALICE)
  now += 2500
  expect(() => limit.charge(ALICE)).toThrow(
    expect.objectContaining({ code: 'rate_limited', retryAfterSeconds: 8 }),
  )
  now += 7500
  expect(passed(limit, ALICE)).toBe(1)
})

test('one caller’s requests take nothing from another, on the same network or not', () => {
  const limit = createRateLimit({ perMinute: 5 })
  expect(passed(limit, ALICE)).toBe(5)
  expect(passed(limit, BOB)).toBe(5)
})

test('failed authentications are counted by network and lock nobody out', () => {
  const limit = createRateLimit({ perMinute: 5 })
  expect(passed(limit, { address: ALICE.address })).toBe(5)
  expect(passed(limit, { address: '198.51.100.7' })).toBe(5)
  expect(passed(limit, ALICE)).toBe(5)
})

test('anonymous callers are counted by network', () => {
  const limit = createRateLimit({ perMinute: 5 })
  expect(passed(limit, { caller: ANONYMOUS, address: '192.0.2.1' })).toBe(5)
  expect(passed(limit, { caller: ANONYMOUS, address: '192.0.2.2' })).toBe(5)
})

test('remembers a bounded number of callers and forgets the one that was idle longest', () => {
  const limit = createRateLimit({ perMinute: 3, maxBuckets: 2 })
  passed(limit, ALICE)
  passed(limit, BOB)
  passed(limit, ALICE)
  passed(limit, { caller: callerOf('carol'), address: undefined })
  expect(passed(limit, ALICE)).toBe(0)
  expect(passed(limit, BOB)).toBe(3)
})

test('0 switches it off', () => {
  expect(passed(createRateLimit({ perMinute: 0 }), ALICE, 1000)).toBe(1000)
})

test('non-canonical IPv6 passes rules about addresses (CVE-2026-47674): every spelling has one counter', () => {
  const limit = createRateLimit({ perMinute: 5 })
  const spellings = [
    '2001:db8::1',
    '2001:DB8:0:0::2',
    '2001:0db8:0000:0000:0000:0000:0000:0001',
    '2001:db8::192.0.2.1',
  ]
  expect(spellings.reduce((sum, address) => sum + passed(limit, { address }), 0)).toBe(5)
  const mapped = ['192.0.2.9', '::ffff:192.0.2.9', '::FFFF:c000:209', '0:0:0:0:0:ffff:192.0.2.9']
  expect(mapped.reduce((sum, address) => sum + passed(limit, { address }), 0)).toBe(5)
})

describe('the network of an address', () => {
  test.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:0db8:0001:0002:ffff::1', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
  ])('%s counts as %s', (address, network) => {
    expect(networkOf(address)).toBe(network)
  })
})
