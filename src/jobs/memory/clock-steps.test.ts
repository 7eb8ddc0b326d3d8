import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { createManualRuntime } from '../../../test/fakes/manual-runtime.ts'
import { manualJobs } from '../../../test/support/manual-jobs.ts'
import type { Jobs, Waiter } from '../job.ts'
import { createMemoryJobs } from './jobs.ts'

const HOUR_MS = 3_600_000
const ALICE = { id: 'alice' }

let runtime: ReturnType<typeof createManualRuntime>
let jobs: Jobs

beforeEach(() => {
  vi.useFakeTimers()
  const manual = manualJobs({ slots: 2, queue: 9, deadlineMs: 60_000 })
  runtime = manual.runtime
  jobs = createMemoryJobs(manual.options)
})
afterEach(() => void vi.useRealTimers())

const submit = (prompt: string, options = {}) => jobs.submit({ prompt }, ALICE, options)
/** Time goes on for clocks and timers. */
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)
/** Only the wall clock changes. */
const set = (ms: number) => vi.setSystemTime(Date.now() + ms)
const leftOf = ({ job }: Waiter) => Math.round((job.expectedAt as number) - performance.now())

describe.each([HOUR_MS, -HOUR_MS])('the clock is set by %i ms', (step) => {
  test('while jobs run: figures and estimates know nothing of it', async () => {
    const running = [await submit('a'), await submit('b')]
    await pass(1000)
    set(step)
    await pass(1000)
    for (const run of runtime.runs) run.finish()
    await pass(0)
    expect(jobs.queue()[0]).toMatchObject({
      estimate_ms: 2000,
      wait_ms: { p95: 0 },
      service_ms: { p50: 2000, p95: 2000 },
    })
    for (const { job } of running)
      expect([(job.startedAt ?? 0) - job.createdAt, (job.endedAt ?? 0) - job.createdAt]).toEqual([0, 2000])
  })

  test('while jobs run and wait: what they are told to wait stays true', async () => {
    for (const prompt of ['a', 'b']) await submit(prompt)
    await pass(2000)
    for (const run of runtime.runs) run.finish()
    await pass(0)
    const [first, , waiting] = [await submit('c'), await submit('d'), await submit('e')]
    await pass(500)
    set(step)
    expect([leftOf(first), leftOf(waiting)]).toEqual([1500, 3500])
  })

  test('who joins may still allow more time, and never less', async () => {
    const { job } = await submit('a', { idempotencyKey: 'k', deadlineMs: 10_000 })
    set(step)
    await submit('a', { idempotencyKey: 'k', deadlineMs: 5000 })
    await pass(6000)
    expect(await jobs.get(job.id, ALICE)).toMatchObject({ state: 'running', deadlineAt: job.deadlineAt })
    await submit('a', { idempotencyKey: 'k', deadlineMs: 20_000 })
    await pass(19_000)
    expect(await jobs.get(job.id, ALICE)).toMatchObject({ state: 'running' })
    await pass(1000)
    expect(await jobs.get(job.id, ALICE)).toMatchObject({
      state: 'expired',
      error: { message: expect.stringContaining('not ready within 26 s') },
    })
  })

  test('ended jobs are remembered as long as before', async () => {
    const { job } = await submit('a')
    runtime.runs[0]?.fail(new Error('x'))
    await pass(0)
    set(step)
    const next = await submit('b')
    await jobs.cancel(next.job.id, ALICE)
    await pass(7_000_000)
    await jobs.cancel((await submit('c')).job.id, ALICE)
    expect(await jobs.get(job.id, ALICE)).toMatchObject({ state: 'failed' })
    await pass(300_000)
    await jobs.cancel((await submit('d')).job.id, ALICE)
    await expect(jobs.get(job.id, ALICE)).rejects.toMatchObject({ code: 'not_found' })
  })
})
