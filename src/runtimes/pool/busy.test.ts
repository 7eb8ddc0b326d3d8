import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createHealth } from './health.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => {
  vi.restoreAllMocks()
  vi.useRealTimers()
})

test('a replica that was busy is told to be ready, also where the timer of a late event loop fires early', async () => {
  const seen: string[] = []
  const health = createHealth({ probe: async () => {}, onChange: () => seen.push(health.state()) })
  await vi.advanceTimersByTimeAsync(0)
  health.busy(1000)
  // The event loop woke 20 ms before the timer was set.
  const now = performance.now.bind(performance)
  vi.spyOn(performance, 'now').mockImplementation(() => now() - 20)
  await vi.advanceTimersByTimeAsync(1010)
  expect(health.state()).toBe('busy')
  await vi.advanceTimersByTimeAsync(50)
  expect(seen).toEqual(['ready', 'busy', 'ready'])
  health.close()
})
