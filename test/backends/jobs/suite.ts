/** What the tests of a job backend work with: the backend between a manual runtime and pictures in memory. */
import { pino } from 'pino'
import { afterEach, beforeEach, expect } from 'vitest'
import type { Identity } from '../../../src/auth/caller.ts'
import type { ImageStore } from '../../../src/images/image.ts'
import { createMemoryImages } from '../../../src/images/memory.ts'
import type { Job, Jobs, JobsOptions, SubmitOptions, TargetQueue, Waiter } from '../../../src/jobs/job.ts'
import { createPlainPool } from '../../../src/runtimes/pool/pool.ts'
import type { ImageRequest } from '../../../src/runtimes/request.ts'
import type { Target } from '../../../src/runtimes/targets.ts'
import { createMetrics } from '../../../src/telemetry/metrics.ts'
import { createManualRuntime, type ManualRun } from '../../fakes/manual-runtime.ts'
import { eventually } from '../../support/eventually.ts'

export const ALICE: Identity = { id: 'alice' }
export const BOB: Identity = { id: 'bob' }
export const CAROL: Identity = { id: 'carol' }
/** A grace that no test outlives, however slow the machine. */
const LONG_MS = 600_000
/** Requests by their work, in pictures of 512x512 and 25 steps. */
export const SIZES: Record<number, Partial<ImageRequest>> = {
  1: {},
  4: { num_inference_steps: 100 },
  8: { num_inference_steps: 200 },
  16: { width: 1024, height: 1024, num_inference_steps: 100 },
}

/** Makes the backend under test; may return what cleans up after each test. */
export type MakeJobs = (parts: JobsOptions) => Promise<{ jobs: Jobs; close?: () => Promise<void> }>

/** A new backend before each test. Call it within a `describe`. `graceMs`: how long an orphan may be adopted. */
export function createJobsSuite(make: MakeJobs, { graceMs = LONG_MS }: { graceMs?: number } = {}) {
  let runtime: ReturnType<typeof createManualRuntime>
  let images: ImageStore
  let jobs: Jobs
  let close: (() => Promise<void>) | undefined

  beforeEach(async () => {
    runtime = createManualRuntime()
    images = createMemoryImages({ maxBytes: 2 ** 20 })
    const target = (fields: Partial<Target> & { name: string }): Target => ({
      kind: 'simulated',
      concurrency: 2,
      queue: 4,
      queuePerCaller: 3,
      defaults: { width: 512, height: 512, num_inference_steps: 25 },
      pool: createPlainPool(runtime, { slots: fields.concurrency ?? 2 }),
      ...fields,
    })
    const made = await make({
      targets: [
        target({ name: 'gpu' }),
        target({ name: 'single', concurrency: 1, queue: 100, queuePerCaller: 100 }),
        target({ name: 'crowded', concurrency: 1, queue: 100, queuePerCaller: 3 }),
      ],
      images,
      deadlineMs: LONG_MS,
      orphanGraceMs: graceMs,
      ttlSeconds: 60,
      log: pino({ level: 'silent' }),
      metrics: createMetrics(),
    })
    jobs = made.jobs
    close = made.close
  })
  afterEach(() => close?.())

  const suite = {
    get runtime() {
      return runtime
    },
    get images() {
      return images
    },
    get jobs() {
      return jobs
    },
    submit: (caller = ALICE, request: Partial<ImageRequest> = {}, options?: SubmitOptions) =>
      jobs.submit({ prompt: 'a fox', ...request } as ImageRequest, caller, options),
    lane: (target = 'gpu') => jobs.queue().find((queue) => queue.target === target) as TargetQueue,
    /** The run that the runtime was asked for as number `index`, once it is there. */
    async run(index: number): Promise<ManualRun> {
      await eventually(() => expect(runtime.runs.length).toBeGreaterThan(index))
      return runtime.runs[index] as ManualRun
    },
    async end(waiter: Waiter): Promise<Job> {
      let last = waiter.job
      for await (const job of waiter.watch()) last = job
      return last
    },
    state: (waiter: Waiter, wanted: string) =>
      eventually(async () =>
        expect((await jobs.get(waiter.job.id, { id: waiter.job.owner })).state).toBe(wanted),
      ),
    /** Lets the target learn that its pictures take about this long. */
    async teach(ms: number, target = 'gpu', size: Partial<ImageRequest> = {}) {
      for (const seed of [1, 2]) {
        const index = runtime.runs.length
        const waiter = await suite.submit(CAROL, { seed, model: target, ...size })
        // From the runtime's call on: a backend may tell that a job runs before its own clock for it does.
        const picture = await suite.run(index)
        await new Promise((resolve) => setTimeout(resolve, ms))
        picture.finish()
        await suite.end(waiter)
        await waiter.leave()
      }
      await eventually(() => expect(suite.lane(target)).toMatchObject({ running: 0, releasing: 0 }))
      runtime.runs.length = 0
    },
    addsUp() {
      for (const { admitted, queued, running, ended } of jobs.queue())
        expect(queued + running + Object.values(ended).reduce((sum, count) => sum + count, 0)).toBe(admitted)
    },
  }
  return suite
}
