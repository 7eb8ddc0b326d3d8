import { expect, test } from 'vitest'
import { ANONYMOUS } from './caller.ts'
import { createHeld } from './held.ts'

const ALICE = { caller: { id: 'alice', scopes: new Set<never>() }, address: '192.0.2.1' }
const BOB = { caller: { id: 'bob', scopes: new Set<never>() }, address: '192.0.2.1' }
const limited = expect.objectContaining({ code: 'rate_limited' })

test('one caller holds as many as it may, and more when it lets go of one, once', () => {
  const held = createHeld({ perCaller: 2 })
  const release = held.hold(ALICE)
  held.hold(ALICE)
  expect(() => held.hold(ALICE)).toThrow(limited)
  held.hold(BOB)
  release()
  release()
  held.hold(ALICE)
  expect(() => held.hold(ALICE)).toThrow(limited)
})

test('without a token the network counts', () => {
  const held = createHeld({ perCaller: 1 })
  held.hold({ caller: ANONYMOUS, address: '2001:db8::1' })
  expect(() => held.hold({ address: '2001:db8::2' })).toThrow(limited)
  held.hold({ address: '192.0.2.2' })
})

test('0 turns it off', () => {
  const held = createHeld({ perCaller: 0 })
  for (let n = 0; n < 100; n += 1) held.hold(ALICE)
})
