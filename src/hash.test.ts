import { expect, test } from 'vitest'
import { sha256 } from './hash.ts'

/** FIPS 180-4, the example of one block. */
const ABC = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'

test('a text and its bytes have the same hash, as bytes or in an encoding', () => {
  expect(sha256('abc', 'hex')).toBe(ABC)
  expect(sha256(new TextEncoder().encode('abc'), 'hex')).toBe(ABC)
  expect(sha256('abc').toString('hex')).toBe(ABC)
  expect(sha256('abc', 'base64url')).toBe(Buffer.from(ABC, 'hex').toString('base64url'))
})
