import { pino } from 'pino'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createReadiness } from './readiness.ts'

const log = pino({ level: 'silent' })
let up: Record<string, boolean>
let asked: string[]
const dependency = (name: string, toolset = 'image') => ({
  name,
  toolset,
  async check() {
    asked.push(name)
    if (!up[name]) throw new Error(`${name} is down`)
  },
})

beforeEach(() => {
  vi.useFakeTimers()
  asked = []
  up = { a: true, b: true }
})
afterEach(() => {
  vi.useRealTimers()
})

test('is not ready while starting and while draining, and asks nobody then', async () => {
  const readiness = createReadiness({ dependencies: [dependency('a')], toolsets: ['image'], log })
  expect(await readiness.report()).toMatchObject({ ready: false, status: 'starting' })
  readiness.set('draining')
  expect(await readiness.report()).toMatchObject({ ready: false, status: 'draining' })
  expect(asked).toEqual([])
})

test('is ready while one dependency is usable, and says which is not', async () => {
  up.b = false
  const readiness = createReadiness({
    dependencies: [dependency('a'), dependency('b', 'trino')],
    toolsets: ['image', 'trino'],
    log,
  })
  readiness.set('serving')
  expect(await readiness.report()).toEqual({
    ready: true,
    status: 'ready',
    dependencies: {
      a: { toolset: 'image', ok: true },
      b: { toolset: 'trino', ok: false, message: 'b is down' },
    },
  })
})

test('asks each dependency at most every 5 s, in the background', async () => {
  const readiness = createReadiness({ dependencies: [dependency('a')], toolsets: ['image'], log })
  readiness.set('serving')
  await Promise.all([readiness.report(), readiness.report()])
  await readiness.report()
  expect(asked).toEqual(['a'])
  up.a = false
  await vi.advanceTimersByTimeAsync(5001)
  expect(await readiness.report()).toMatchObject({ ready: true })
  await vi.advanceTimersByTimeAsync(0)
  expect(asked).toEqual(['a', 'a'])
  expect(await readiness.report()).toMatchObject({ ready: false, status: 'unavailable' })
})

test('a dependency that never answers counts as down after 3 s', async () => {
  vi.useRealTimers()
  const silent = {
    name: 'a',
    toolset: 'image',
    check: ({ signal }: { signal: AbortSignal }) =>
      new Promise<void>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  }
  const readiness = createReadiness({ dependencies: [silent], toolsets: ['image'], log })
  readiness.set('serving')
  expect(await readiness.report()).toMatchObject({
    ready: false,
    dependencies: { a: { ok: false, message: expect.stringContaining('no answer') } },
  })
})

test('a toolset is of no use without what it requires, whatever else is there', async () => {
  up.jobs = false
  const jobs = { ...dependency('jobs'), required: true }
  const image = createReadiness({ dependencies: [dependency('a'), jobs], toolsets: ['image'], log })
  image.set('serving')
  expect(await image.report()).toMatchObject({ ready: false, status: 'unavailable' })
  const both = createReadiness({
    dependencies: [dependency('a'), jobs, dependency('b', 'trino')],
    toolsets: ['image', 'trino'],
    log,
  })
  both.set('serving')
  expect(await both.report()).toMatchObject({ ready: true, dependencies: { jobs: { ok: false } } })
})

test('a clock that is set back does not stop the checks', async () => {
  const readiness = createReadiness({ dependencies: [dependency('a')], toolsets: ['image'], log })
  readiness.set('serving')
  await readiness.report()
  vi.setSystemTime(Date.now() - 3_600_000)
  await vi.advanceTimersByTimeAsync(5001)
  await readiness.report()
  expect(asked).toEqual(['a', 'a'])
})
