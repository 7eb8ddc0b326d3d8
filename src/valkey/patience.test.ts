import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { createPatience, Slow } from './patience.ts'

/** Short, so that a test need not wait long; what takes longer is a multiple of it. */
const TIMEOUT_MS = 40

/** A server that answers each PING, or none; it counts them. */
function patienceWith({ answers, patienceMs }: { answers: boolean; patienceMs?: number }) {
  let pings = 0
  const patience = createPatience({
    ping() {
      pings += 1
      return answers ? Promise.resolve('PONG') : new Promise(() => {})
    },
    timeoutMs: TIMEOUT_MS,
    ...(patienceMs !== undefined && { patienceMs }),
  })
  return { ...patience, pings: () => pings }
}
const never = () => new Promise<never>(() => {})

describe('a command that takes longer than the timeout', () => {
  test('is waited for while the server answers PINGs', async () => {
    const { answered, pings } = patienceWith({ answers: true })
    expect(await answered(sleep(5 * TIMEOUT_MS, 'reply'))).toBe('reply')
    expect(pings()).toBeGreaterThan(0)
  })

  test('is given up as slow after the patience', async () => {
    const { answered } = patienceWith({ answers: true, patienceMs: 2 * TIMEOUT_MS })
    await expect(answered(never())).rejects.toBeInstanceOf(Slow)
  })

  test('finds the server away when a PING is not answered either', async () => {
    const { answered } = patienceWith({ answers: false })
    const error = await answered(never()).catch((thrown) => thrown)
    expect(error).not.toBeInstanceOf(Slow)
    expect(error.message).toBe('no answer for 40 ms, not to a PING either')
  })

  test('is waited for while other commands are answered, though no PING is', async () => {
    const { answered } = patienceWith({ answers: false })
    const others = new AbortController()
    const traffic = (async () => {
      while (!others.signal.aborted) await answered(sleep(1))
    })()
    expect(await answered(sleep(5 * TIMEOUT_MS, 'reply'))).toBe('reply')
    others.abort()
    await traffic
  })

  test('shares its PING with all others that wait', async () => {
    const { answered, pings } = patienceWith({ answers: false })
    await Promise.allSettled(Array.from({ length: 100 }, () => answered(never())))
    expect(pings()).toBe(1)
  })
})

test('a command that is answered sends no PING', async () => {
  const { answered, pings } = patienceWith({ answers: true })
  expect(await answered(Promise.resolve('reply'))).toBe('reply')
  await expect(answered(Promise.reject(new Error('ERR')))).rejects.toThrow('ERR')
  await sleep(2 * TIMEOUT_MS)
  expect(pings()).toBe(0)
})
