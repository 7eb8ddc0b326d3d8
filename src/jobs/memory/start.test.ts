import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createStart } from './start.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

test('the time of a start runs from the first job that waits for it, and not from one that was cancelled', () => {
  const start = createStart({ scalesFromZero: true })
  start.follow({ waiting: 1, capacity: 0 })
  expect([start.isGoing(), start.leftMs()]).toEqual([true, undefined])
  vi.advanceTimersByTime(500_000)
  // The first one was cancelled meanwhile.
  start.follow({ waiting: 1, capacity: 0 })
  vi.advanceTimersByTime(30_000)
  start.follow({ waiting: 2, capacity: 0 })
  vi.advanceTimersByTime(30_000)
  start.follow({ waiting: 2, capacity: 1 })
  expect([start.isGoing(), start.leftMs()]).toEqual([false, 0])
  start.follow({ waiting: 0, capacity: 0 })
  expect(start.leftMs()).toBe(60_000)
  start.follow({ waiting: 1, capacity: 0 })
  vi.advanceTimersByTime(20_000)
  expect(start.leftMs()).toBe(40_000)
  vi.advanceTimersByTime(100_000)
  expect(start.leftMs()).toBe(0)
})

test('where nothing scales from zero, no start is ever going on', () => {
  const start = createStart({ scalesFromZero: false })
  start.follow({ waiting: 1, capacity: 0 })
  expect([start.isGoing(), start.leftMs()]).toEqual([false, 0])
})
