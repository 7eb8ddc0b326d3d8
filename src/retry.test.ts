import { expect, test } from 'vitest'
import { type RetryOptions, retry } from './retry.ts'

const OUTAGE = new Error('outage')

/** Retries an act that fails `failures` times. */
async function run({ failures, ...options }: Partial<RetryOptions> & { failures: number }) {
  let attempts = 0
  const result = await retry(
    async () => {
      attempts += 1
      if (attempts <= failures) throw OUTAGE
      return 'done'
    },
    {
      isTransient: (error) => error === OUTAGE,
      until: performance.now() + 60_000,
      signal: new AbortController().signal,
      firstPauseMs: 1,
      ...options,
    },
  ).catch((error) => error)
  return { attempts, result }
}

test('an outage is retried until it is over', async () => {
  expect(await run({ failures: 3 })).toEqual({ attempts: 4, result: 'done' })
})

test('a refusal is not retried', async () => {
  expect(await run({ failures: 3, isTransient: () => false })).toEqual({ attempts: 1, result: OUTAGE })
})

test('no attempt begins after the time is over', async () => {
  const { attempts, result } = await run({ failures: 1000, until: performance.now() + 30 })
  expect(result).toBe(OUTAGE)
  expect(attempts).toBeGreaterThan(1)
  expect(attempts).toBeLessThan(30)
})

test('an abort ends the pause, and the failure is the last one', async () => {
  const abort = new AbortController()
  const running = run({ failures: 3, signal: abort.signal, firstPauseMs: 50_000 })
  abort.abort(new Error('left'))
  expect(await running).toEqual({ attempts: 1, result: OUTAGE })
})
