/** Random lives of many jobs at once: whatever happens in whichever order, the promises hold. */
import fc from 'fast-check'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createManualRuntime } from '../../../test/fakes/manual-runtime.ts'
import { AppError } from '../../errors.ts'
import { createMemoryImages } from '../../images/memory.ts'
import { createPlainPool } from '../../runtimes/pool/pool.ts'
import { createMetrics } from '../../telemetry/metrics.ts'
import { hasEnded, type Waiter } from '../job.ts'
import { createMemoryJobs } from './jobs.ts'

const GRACE_MS = 1000
const CONCURRENCY = 2
const REFUSALS = ['overloaded', 'rate_limited', 'deadline_exceeded', 'conflict']

const nth = fc.nat({ max: 30 })
const operation = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('submit' as const),
      caller: fc.constantFrom('alice', 'bob', 'anonymous'),
      prompt: fc.constantFrom('a', 'b'),
      seed: fc.option(fc.constantFrom(1, 2), { nil: undefined }),
      key: fc.option(fc.constantFrom('k1', 'k2'), { nil: undefined }),
      deadlineMs: fc.constantFrom(1500, 60_000),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('leave' as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('detach' as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('cancel' as const), nth }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('finish' as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fail' as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('step' as const), nth }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(10, 600, GRACE_MS, 1500) }),
  },
)
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Plays a sequence, checking after each operation; then lets everything end and checks that nothing is left. */
async function play(operations: readonly Operation[]): Promise<void> {
  const runtime = createManualRuntime()
  const jobs = createMemoryJobs({
    targets: [
      {
        name: 'gpu',
        kind: 'simulated',
        concurrency: CONCURRENCY,
        queue: 4,
        queuePerCaller: 3,
        defaults: {},
        pool: createPlainPool(runtime, { slots: CONCURRENCY }),
      },
    ],
    images: createMemoryImages({ maxBytes: 2 ** 20 }),
    deadlineMs: 60_000,
    orphanGraceMs: GRACE_MS,
    ttlSeconds: 3600,
    log: pino({ level: 'silent' }),
    metrics: createMetrics(),
  })
  const waiters: Waiter[] = []
  const byKey = new Map<string, Waiter[]>()
  const settledRuns = new Set<number>()
  const settle = () => vi.advanceTimersByTimeAsync(0)
  const pick = <T>(items: readonly T[], index: number): T | undefined =>
    items[index % Math.max(1, items.length)]

  const check = () => {
    const [queue] = jobs.queue()
    if (!queue) throw new Error('the target is gone')
    const { queued, running, releasing, admitted, ended } = queue
    // No slot leaks, and none is given out twice.
    expect(running + releasing).toBeLessThanOrEqual(CONCURRENCY)
    expect(queued === 0 || running + releasing === CONCURRENCY).toBe(true)
    const busy = runtime.runs.filter(({ signal }, index) => !signal.aborted && !settledRuns.has(index)).length
    expect(running).toBe(busy)
    // Counts always add up.
    expect(queued + running + ended.succeeded + ended.failed + ended.cancelled + ended.expired).toBe(admitted)
    // No picture is made twice for a key.
    for (const [key, submitted] of byKey) {
      const pictures = new Set(
        submitted.filter(({ job }) => job.state === 'succeeded').map(({ job }) => job.imageId),
      )
      expect(pictures.size, key).toBeLessThanOrEqual(1)
    }
  }

  for (const op of operations) {
    if (op.do === 'submit') {
      const { caller, prompt, seed, key, deadlineMs } = op
      try {
        const waiter = await jobs.submit(
          { prompt, ...(seed === undefined ? {} : { seed }) },
          { id: caller },
          {
            deadlineMs,
            ...(key === undefined ? {} : { idempotencyKey: key }),
          },
        )
        waiters.push(waiter)
        if (caller === 'anonymous') expect(waiter.joined).toBe(false)
        else if (key !== undefined)
          byKey.set(`${caller} ${key}`, [...(byKey.get(`${caller} ${key}`) ?? []), waiter])
      } catch (error) {
        expect(REFUSALS).toContain((error as AppError).code)
      }
    } else if (op.do === 'wait') await vi.advanceTimersByTimeAsync(op.ms)
    else if (op.do === 'leave') await pick(waiters, op.nth)?.leave()
    else if (op.do === 'detach') await pick(waiters, op.nth)?.detach()
    else if (op.do === 'cancel') {
      const waiter = pick(waiters, op.nth)
      if (waiter) await jobs.cancel(waiter.job.id, { id: waiter.job.owner })
    } else if (runtime.runs.length > 0) {
      const index = op.nth % runtime.runs.length
      const run = runtime.runs[index]
      if (op.do === 'step') run?.step(1, 2)
      else settledRuns.add(index)
      if (op.do === 'finish') run?.finish()
      if (op.do === 'fail') run?.fail(new AppError('runtime_failed', 'It broke.'))
    }
    await settle()
    check()
  }

  // Everything ends by itself: nobody waits any more, and deadlines pass.
  for (const waiter of waiters) await waiter.leave()
  await vi.advanceTimersByTimeAsync(120_000)
  for (const { job } of waiters) expect(hasEnded(job), JSON.stringify(job)).toBe(true)
  expect(jobs.queue()).toMatchObject([{ queued: 0, running: 0, releasing: 0 }])
}

test('no slot leaks, no job without an end, counts that add up', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 20, maxLength: 80, size: 'max' }), play),
    { numRuns: 150 },
  )
})
