import { expect, test } from 'vitest'
import { bestLevel, rateOf, sizeFor } from './sizing.ts'

const level = (callers: number, slotSeconds: number) => ({
  ...{ callers, slotSeconds, calls: 100, inferenceSeconds: slotSeconds },
})

test('a GPU that makes two pictures in twice the time gains nothing by two at once', () => {
  const levels = [level(1, 1), level(2, 1.95), level(4, 3.9)]
  expect(bestLevel(levels).callers).toBe(1)
})

test('one that gains until four at once, and loses then', () => {
  const best = bestLevel([level(1, 1), level(2, 1.2), level(4, 2), level(8, 4.5)])
  expect(best.callers).toBe(4)
  expect(rateOf(best)).toBe(2)
})

test('the smallest deployment for a rate: one slot less would refuse more than 1 %', () => {
  const wish = { ratePerSecond: 10, deadlineSeconds: 2, slotSeconds: 0.5, slotsPerReplica: 1 }
  const sizing = sizeFor(wish)
  expect(sizing).toMatchObject({ replicas: sizing.concurrency, queue: 3 * sizing.concurrency })
  expect(sizing.concurrency).toBeGreaterThan(4)
  expect(sizing.concurrency).toBeLessThan(8)
  expect(sizing.refusedShare).toBeLessThan(0.01)
  expect(sizing.p95WaitSeconds + 0.5).toBeLessThan(2)
})

test('replicas come whole', () => {
  const sizing = sizeFor({ ratePerSecond: 10, deadlineSeconds: 2, slotSeconds: 0.5, slotsPerReplica: 4 })
  expect(sizing).toMatchObject({ replicas: 2, concurrency: 8, queue: 24 })
})

test('a deadline that nothing can keep is said so', () => {
  expect(() =>
    sizeFor({ ratePerSecond: 1, deadlineSeconds: 1, slotSeconds: 1.5, slotsPerReplica: 1 }),
  ).toThrow('A picture takes 1.50 s, longer than the deadline of 1 s: allow more time, or fewer steps.')
})
