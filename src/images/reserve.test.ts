import { expect, test } from 'vitest'
import { createReserve } from './reserve.ts'

test('the largest of the last pictures counts, and is forgotten by and by', () => {
  const reserve = createReserve()
  expect(reserve.bytes()).toBe(0)
  reserve.note(8_000_000)
  reserve.note(50_000)
  expect(reserve.bytes()).toBe(7_840_000)
  for (let check = 0; check < 34; check += 1) reserve.bytes()
  expect(reserve.bytes()).toBeLessThan(4_000_000)
  reserve.note(5_000_000)
  expect(reserve.bytes()).toBe(5_000_000)
})
