import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createDiscovery, KEPT_MS } from './discovery.ts'

let answers: (readonly string[] | string)[]
let looks: number
let found: (readonly string[])[]
let discovery: ReturnType<typeof createDiscovery> | undefined

/** Each look takes the next answer: addresses, or the code of an error; the last one stays. */
const begin = (url = 'http://pool.default.svc:8080') => {
  discovery = createDiscovery({
    url,
    onFound: (urls) => found.push(urls),
    lookup: async () => {
      looks += 1
      const answer = answers.length > 1 ? answers.shift()! : answers[0]!
      if (typeof answer === 'string') throw Object.assign(new Error(answer), { code: answer })
      return answer.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
    },
  })
  return discovery
}

beforeEach(() => {
  vi.useFakeTimers()
  looks = 0
  found = []
})
afterEach(() => {
  discovery?.close()
  vi.useRealTimers()
})

test('every address is a replica, each once, in the same order for all servers', async () => {
  answers = [['10.0.0.2', 'fd00::1', '10.0.0.1', '10.0.0.2']]
  begin('https://pool.default.svc:8443/base/')
  await vi.advanceTimersByTimeAsync(0)
  expect(found).toEqual([
    ['https://10.0.0.1:8443/base', 'https://10.0.0.2:8443/base', 'https://[fd00::1]:8443/base'],
  ])
})

test('the name is resolved again every five seconds', async () => {
  answers = [['10.0.0.1'], ['10.0.0.1', '10.0.0.2']]
  begin()
  await vi.advanceTimersByTimeAsync(5000)
  expect(found.at(-1)).toEqual(['http://10.0.0.1:8080', 'http://10.0.0.2:8080'])
  expect(looks).toBe(2)
})

test('after a failed connection it is resolved at once, though at most once a second', async () => {
  answers = [['10.0.0.1'], ['10.0.0.2'], ['10.0.0.3']]
  const { refresh } = begin()
  await vi.advanceTimersByTimeAsync(1000)
  refresh()
  await vi.advanceTimersByTimeAsync(0)
  expect(found.at(-1)).toEqual(['http://10.0.0.2:8080'])
  for (let burst = 0; burst < 50; burst += 1) refresh()
  await vi.advanceTimersByTimeAsync(0)
  expect(looks).toBe(2)
  await vi.advanceTimersByTimeAsync(1000)
  expect(looks).toBe(3)
})

test('a name that is gone keeps its addresses for a while, and then has none', async () => {
  answers = [['10.0.0.1'], 'ENOTFOUND']
  begin()
  await vi.advanceTimersByTimeAsync(KEPT_MS)
  expect(found.at(-1)).toEqual(['http://10.0.0.1:8080'])
  await vi.advanceTimersByTimeAsync(5000)
  expect(found.at(-1)).toEqual([])
})

test('while DNS does not answer, the last addresses count', async () => {
  answers = [['10.0.0.1'], 'EAI_AGAIN']
  begin()
  await vi.advanceTimersByTimeAsync(10 * KEPT_MS)
  expect(found.at(-1)).toEqual(['http://10.0.0.1:8080'])
})

test('a name that never resolved has no addresses, and that is told', async () => {
  answers = ['ENOTFOUND']
  begin()
  await vi.advanceTimersByTimeAsync(0)
  expect(found).toEqual([[]])
})

test('closed, it asks no more', async () => {
  answers = [['10.0.0.1']]
  begin().close()
  await vi.advanceTimersByTimeAsync(60_000)
  expect(looks).toBe(1)
  expect(found).toEqual([])
})
