/**
 * One sequence of operations against both job backends, compared state by state and run by run, through the public
 * interface: what a caller sees must not depend on where the jobs are kept.
 */
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import { AppError } from '../../src/errors.ts'
import { createMemoryImages } from '../../src/images/memory.ts'
import { hasEnded, type Job, type Jobs, type JobsOptions, type Waiter } from '../../src/jobs/job.ts'
import { createMemoryJobs } from '../../src/jobs/memory/jobs.ts'
import { createValkeyJobs } from '../../src/jobs/valkey/jobs.ts'
import { createPlainPool } from '../../src/runtimes/pool/pool.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { createManualRuntime, type ManualRun } from '../fakes/manual-runtime.ts'
import { eventually } from '../support/eventually.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

/** Steps by size: a job of 25 steps is one unit of work; 10 and 30 steps are no sums of halves. */
const STEPS = [25, 25, 25, 10, 30, 100]
const CALLERS = ['alice', 'bob', 'carol', 'anonymous']
/** Long enough never to pass while a sequence runs, however slow the machine. */
const NEVER_MS = 600_000

const nth = fc.nat({ max: 40 })
const operation = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('submit' as const),
      caller: fc.constantFrom(...CALLERS),
      steps: fc.constantFrom(...STEPS),
      key: fc.option(fc.constantFrom('k1', 'k2'), { nil: undefined, freq: 4 }),
      seed: fc.option(fc.constantFrom(1, 2), { nil: undefined, freq: 3 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('repeat' as const), nth }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('cancel' as const), nth }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('leave' as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('detach' as const), nth }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('finish' as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fail' as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('step' as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('delete' as const), nth }) },
)
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never

const sequence = fc.record({
  concurrency: fc.constantFrom(1, 1, 2),
  // 0: who is left ends at once; long: it may be adopted until the end of the sequence.
  graceMs: fc.constantFrom(0, NEVER_MS),
  operations: fc.array(operation, { minLength: 15, maxLength: 45, size: 'max' }),
})
type Sequence = typeof sequence extends fc.Arbitrary<infer T> ? T : never

/** One backend under test, with what the sequence did to it so far. */
interface Side {
  readonly name: string
  readonly jobs: Jobs
  readonly images: JobsOptions['images']
  readonly runs: readonly ManualRun[]
  readonly waiters: Waiter[]
  /** Runs that the sequence ended in the runtime. */
  readonly settled: Set<ManualRun>
  /** What each submission came to. */
  readonly outcomes: string[]
}

describe.skipIf(findValkeyServer() === undefined)('both job backends', () => {
  let valkey: ValkeyServer
  beforeAll(async () => {
    valkey = await startValkey({ appendonly: 'no' })
  })
  afterAll(() => valkey?.stop())

  async function openSides({ concurrency, graceMs }: Sequence): Promise<Side[]> {
    const side = async (name: string, open: (parts: JobsOptions) => Jobs | Promise<Jobs>) => {
      const runtime = createManualRuntime()
      const images = createMemoryImages({ maxBytes: 2 ** 20 })
      const target = {
        kind: 'simulated',
        concurrency,
        queue: 8,
        queuePerCaller: 5,
        pool: createPlainPool(runtime, { slots: concurrency }),
      } as const
      const jobs = await open({
        targets: [{ ...target, name: 'gpu', defaults: { width: 512, height: 512, num_inference_steps: 25 } }],
        images,
        deadlineMs: NEVER_MS,
        orphanGraceMs: graceMs,
        ttlSeconds: 600,
        log: pino({ level: 'silent' }),
        metrics: createMetrics(),
      })
      return {
        name,
        jobs,
        images,
        runs: runtime.runs,
        waiters: [],
        settled: new Set<ManualRun>(),
        outcomes: [],
      }
    }
    return await Promise.all([
      side('memory', createMemoryJobs),
      side('valkey', (parts) =>
        createValkeyJobs({
          ...parts,
          url: fixedSecret(valkey.url),
          // Nobody dies here; a stall of the machine must not look like it.
          lockMs: NEVER_MS,
          maxReruns: 3,
          prefix: randomUUID(),
        }),
      ),
    ])
  }

  test('play every sequence alike', { timeout: 600_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(sequence, async (given) => {
        const sides = await openSides(given)
        try {
          await play(sides, given)
        } finally {
          await Promise.all(sides.map(({ jobs }) => jobs.close()))
        }
      }),
      { numRuns: Number(process.env.SEQUENCES ?? 40), endOnFailure: true },
    )
  })
})

async function play(sides: readonly Side[], { operations }: Sequence): Promise<void> {
  for (const [index, step] of operations.entries()) {
    for (const side of sides) await perform(side, step, index)
    await compare(sides, `after ${index}: ${JSON.stringify(step)}`)
  }

  // A server that stops: nothing new, but retries join, and what was accepted is finished.
  const drained = sides.map(({ jobs }) => jobs.drain({ timeoutMs: NEVER_MS }))
  for (const caller of CALLERS)
    for (const key of ['k1', undefined] as const) {
      const step = { do: 'submit', caller, steps: 25, key, seed: undefined } as const
      for (const side of sides) await perform(side, step, operations.length)
    }
  await compare(sides, 'while draining')
  for (let round = 0; round < 60; round += 1) {
    for (const side of sides)
      for (const run of live(side)) {
        side.settled.add(run)
        run.finish()
      }
    await compare(sides, `in round ${round} of the end`)
    if (sides[0]?.jobs.queue()[0]?.running === 0) break
  }
  await Promise.all(drained)
  for (const { waiters, jobs } of sides)
    for (const { job } of waiters) expect(hasEnded(await jobs.get(job.id, { id: job.owner }))).toBe(true)
}

async function perform(side: Side, step: Operation, index: number): Promise<void> {
  const { jobs, images, waiters, settled, outcomes } = side
  const pick = <T>(items: readonly T[]): T | undefined =>
    'nth' in step ? items[step.nth % Math.max(1, items.length)] : undefined
  const submit = async (caller: string, request: Submitted['request'], key?: string) => {
    const requestId = String(waiters.length)
    const options = { idempotencyKey: key, requestId }
    const waiter = await jobs.submit(request, { id: caller }, options).catch((error) => {
      outcomes.push(error instanceof AppError ? error.code : String(error))
    })
    if (!waiter) return
    if (caller === 'anonymous') expect(waiter.joined, `${side.name}: ${key}`).toBe(false)
    outcomes.push(
      waiter.joined ? `joined ${waiters.findIndex(({ job }) => job.id === waiter.job.id)}` : 'new',
    )
    waiters.push(waiter)
  }
  switch (step.do) {
    case 'submit': {
      const { caller, steps, key, seed } = step
      // Requests with a key or a seed come again and can be joined, the others are all different.
      const prompt = `${caller} ${key ?? (seed === undefined ? index : 'seeded')}`
      return await submit(caller, { prompt, num_inference_steps: steps, seed }, key)
    }
    case 'repeat': {
      const { owner, request } = pick(waiters)?.job ?? {}
      if (!owner || !request) return
      const { prompt, num_inference_steps } = request
      return await submit(owner, { prompt, num_inference_steps })
    }
    case 'cancel': {
      const job = pick(waiters)?.job
      if (job) await jobs.cancel(job.id, { id: job.owner })
      return
    }
    case 'leave':
      return await pick(waiters)?.leave()
    case 'detach':
      return await pick(waiters)?.detach()
    case 'delete': {
      const job = pick(waiters)?.job
      if (job) await images.delete(job.imageId)
      return
    }
    default: {
      // Of two slots that free at once either may begin first.
      const run = pick(live(side).toSorted((a, b) => jobOf(a) - jobOf(b)))
      if (!run) return
      if (step.do === 'step') return run.step(1, 2)
      settled.add(run)
      if (step.do === 'finish') run.finish()
      else run.fail(new AppError('runtime_failed', 'It broke.'))
    }
  }
}

interface Submitted {
  readonly request: { prompt: string; num_inference_steps: number | undefined; seed?: number | undefined }
}

/** Waits until nothing moves any more and both sides stand alike, and says where they differ when they never do. */
async function compare(sides: readonly Side[], when: string): Promise<void> {
  await eventually(async () => {
    for (const side of sides) {
      const { running, releasing, queued, concurrency } = side.jobs.queue()[0]!
      // What the book calls running is at the runtime, slots are free again, and none stands empty.
      expect({ running, releasing }, `${side.name} ${when}`).toEqual({
        running: live(side).length,
        releasing: 0,
      })
      expect(queued === 0 || running === concurrency, `${side.name} ${when}`).toBe(true)
    }
    const [a, b] = await Promise.all(sides.map(view))
    expect(b, when).toEqual(a)
  })
}

const live = ({ runs, settled }: Side) => runs.filter((run) => !settled.has(run) && !run.signal.aborted)

/** A run's job by its place among the submissions. Anonymous callers can have equal jobs at once. */
const jobOf = ({ requestId }: ManualRun) => Number(requestId)

/** What callers see of a side. Which of two free slots begins first is nobody's promise, so runs are told by set. */
async function view(side: Side) {
  const { jobs, runs, waiters, settled, outcomes } = side
  const known = await Promise.all(waiters.map(({ job }) => jobs.get(job.id, { id: job.owner })))
  const [queue] = jobs.queue()
  const { queued, running, releasing, admitted, ended, refused } = queue!
  return {
    outcomes,
    jobs: known.map(({ state, position, error }: Job) => ({ state, position, error: error?.code })),
    runs: runs
      .map((run) => {
        const how = settled.has(run) ? 'settled' : run.signal.aborted ? 'aborted' : 'running'
        return `${jobOf(run)} ${how}`
      })
      .sort(),
    queue: { queued, running, releasing, admitted, ended, refused },
  }
}
