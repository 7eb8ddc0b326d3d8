/** What every job backend promises, as a suite to run against each of them. Nothing here looks inside of one. */
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ANONYMOUS, type Identity } from '../../src/auth/caller.ts'
import { AppError } from '../../src/errors.ts'
import type { ImageStore } from '../../src/images/image.ts'
import { createMemoryImages } from '../../src/images/memory.ts'
import type { Job, Jobs, JobsOptions, SubmitOptions, TargetQueue, Waiter } from '../../src/jobs/job.ts'
import type { ImageRequest } from '../../src/runtimes/request.ts'
import type { Target } from '../../src/runtimes/targets.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { createManualRuntime, type ManualRun } from '../fakes/manual-runtime.ts'
import { eventually } from '../support/eventually.ts'

const ALICE: Identity = { id: 'alice' }
const BOB: Identity = { id: 'bob' }
const CAROL: Identity = { id: 'carol' }
const REQUEST = { prompt: 'a fox' }
/** Requests by their work, in pictures of 512x512 and 25 steps. */
const SIZES: Record<number, Partial<ImageRequest>> = {
  1: {},
  4: { num_inference_steps: 100 },
  8: { num_inference_steps: 200 },
  16: { width: 1024, height: 1024, num_inference_steps: 100 },
}
const GRACE_MS = 300

/** Runs the suite against the backend that `make` makes; it may return what cleans up after each test. */
export function jobsContract(
  name: string,
  make: (parts: JobsOptions) => Promise<{ jobs: Jobs; close?: () => Promise<void> }>,
): void {
  describe(name, () => {
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
        runtime,
        ...fields,
      })
      const made = await make({
        targets: [
          target({ name: 'gpu' }),
          target({ name: 'single', concurrency: 1, queue: 100, queuePerCaller: 100 }),
          target({ name: 'crowded', concurrency: 1, queue: 100, queuePerCaller: 3 }),
        ],
        images,
        deadlineMs: 60_000,
        orphanGraceMs: GRACE_MS,
        ttlSeconds: 60,
        log: pino({ level: 'silent' }),
        metrics: createMetrics(),
      })
      jobs = made.jobs
      close = made.close
    })
    afterEach(() => close?.())

    const submit = (caller = ALICE, request: Partial<ImageRequest> = {}, options?: SubmitOptions) =>
      jobs.submit({ ...REQUEST, ...request } as ImageRequest, caller, options)
    const lane = (target = 'gpu') => jobs.queue().find((queue) => queue.target === target) as TargetQueue
    const run = async (index: number): Promise<ManualRun> => {
      await eventually(() => expect(runtime.runs.length).toBeGreaterThan(index))
      return runtime.runs[index] as ManualRun
    }
    const end = async (waiter: Waiter): Promise<Job> => {
      let last = waiter.job
      for await (const job of waiter.watch()) last = job
      return last
    }
    const state = async (waiter: Waiter, wanted: string) =>
      await eventually(async () =>
        expect((await jobs.get(waiter.job.id, { id: waiter.job.owner })).state).toBe(wanted),
      )
    /** Lets the target learn that its pictures take about this long. */
    const teach = async (ms: number, target = 'gpu') => {
      for (const seed of [1, 2]) {
        const index = runtime.runs.length
        const waiter = await submit(CAROL, { seed, model: target })
        // From the runtime's call on: a backend may tell that a job runs before its own clock for it does.
        const picture = await run(index)
        await new Promise((resolve) => setTimeout(resolve, ms))
        picture.finish()
        await end(waiter)
        await waiter.leave()
      }
      await eventually(() => expect(lane(target)).toMatchObject({ running: 0, releasing: 0 }))
      runtime.runs.length = 0
    }
    const addsUp = () => {
      for (const { admitted, queued, running, ended } of jobs.queue())
        expect(queued + running + Object.values(ended).reduce((sum, count) => sum + count, 0)).toBe(admitted)
    }

    describe('submit', () => {
      test('starts while there is a free slot, then queues, and tells the position', async () => {
        const waiters: Waiter[] = []
        for (const seed of [1, 2, 3, 4]) waiters.push(await submit(ALICE, { seed }))
        await eventually(() => expect(lane()).toMatchObject({ running: 2, queued: 2 }))
        const known = await Promise.all(waiters.map(({ job }) => jobs.get(job.id, ALICE)))
        expect(known.map((job) => job.state)).toEqual(['running', 'running', 'queued', 'queued'])
        expect(known.map((job) => job.position)).toEqual([undefined, undefined, 1, 2])
        addsUp()
      })

      test('fills in the defaults of the target and draws a seed; what was asked for wins', async () => {
        await submit()
        await submit(ALICE, { width: 64, seed: 7, negative_prompt: undefined })
        expect((await run(0)).request).toEqual({
          prompt: 'a fox',
          width: 512,
          height: 512,
          num_inference_steps: 25,
          seed: expect.any(Number),
        })
        expect((await run(1)).request).toEqual({
          prompt: 'a fox',
          width: 64,
          height: 512,
          num_inference_steps: 25,
          seed: 7,
        })
      })

      test('refuses a model that is not there and names those that are', async () => {
        await expect(submit(ALICE, { model: 'sdxl' })).rejects.toMatchObject({
          code: 'invalid_request',
          message: expect.stringMatching(/"sdxl".*"gpu", "single"/),
        })
      })
    })

    describe('admission', () => {
      test('refuses at once beyond the queue bound, with a time to come back', async () => {
        for (const caller of [ALICE, BOB, ALICE, BOB, ALICE, BOB]) await submit(caller)
        await expect(submit(CAROL)).rejects.toMatchObject({
          code: 'overloaded',
          retryAfterSeconds: expect.any(Number),
          message: expect.stringMatching(/2 running and 4 waiting/),
        })
        expect(lane()).toMatchObject({ running: 2, queued: 4, refused: { overloaded: 1 } })
        addsUp()
      })

      test('one caller may not fill the queue', async () => {
        for (let index = 0; index < 5; index += 1) await submit(ALICE)
        await expect(submit(ALICE)).rejects.toMatchObject({
          code: 'rate_limited',
          retryAfterSeconds: expect.any(Number),
        })
        expect((await submit(BOB)).job.state).toBe('queued')
      })

      test('callers who cannot be told apart share the whole queue', async () => {
        for (let index = 0; index < 6; index += 1) await submit(ANONYMOUS)
        await expect(submit(ANONYMOUS)).rejects.toMatchObject({ code: 'overloaded' })
      })

      test('without an estimate everything that fits the queue is admitted', async () => {
        for (let index = 0; index < 3; index += 1) await submit(ALICE, {}, { deadlineMs: 60_000 })
        expect((await submit(BOB, {}, { deadlineMs: 1000 })).job.state).toBe('queued')
      })

      test('too late because of the queue: overloaded, and Retry-After says when it would fit', async () => {
        await teach(400)
        for (let index = 0; index < 5; index += 1) await submit(ALICE)
        const refusal = await submit(BOB, {}, { deadlineMs: 700 }).catch((error) => error)
        expect(refusal).toMatchObject({
          code: 'overloaded',
          message: expect.stringMatching(/would be ready in about/),
        })
        expect(refusal.retryAfterSeconds).toBe(1)
        expect((await submit(BOB, {}, { deadlineMs: 30_000 })).job.expectedAt).toBeGreaterThan(Date.now())
      })

      test('too late by itself: deadline_exceeded, with no use in retrying', async () => {
        await teach(300)
        await expect(submit(ALICE, {}, { deadlineMs: 100 })).rejects.toMatchObject({
          code: 'deadline_exceeded',
          retryAfterSeconds: undefined,
        })
        expect(lane().refused.deadline_exceeded).toBe(1)
      })

      test('the estimate scales with steps x pixels', async () => {
        await teach(200)
        const large = { width: 1024, height: 1024, num_inference_steps: 50 }
        await expect(submit(ALICE, large, { deadlineMs: 1000 })).rejects.toMatchObject({
          code: 'deadline_exceeded',
        })
        expect(lane().estimate_ms).toBeGreaterThanOrEqual(190)
      })

      const estimate = (target: string) => lane(target).estimate_ms as number
      /** One unit of work is the target's default picture. */
      const units = (count: number) => ({ model: 'single', ...SIZES[count] })

      test('what waits counts by its size: small ones first, the newcomer is in time', async () => {
        await teach(200, 'single')
        await submit(CAROL, units(1))
        for (const count of [1, 8, 8]) await submit(ALICE, units(count))
        const deadlineMs = 5 * estimate('single')
        expect((await submit(BOB, units(1), { deadlineMs })).job.state).toBe('queued')
      })

      test('what waits counts by its size: a large one first, the newcomer would be too late', async () => {
        await teach(200, 'single')
        await submit(CAROL, units(1))
        for (const count of [16, 1, 1, 1]) await submit(ALICE, units(count))
        const deadlineMs = 10 * estimate('single')
        await expect(submit(BOB, units(1), { deadlineMs })).rejects.toMatchObject({ code: 'overloaded' })
      })

      test('who goes later is expected later, whatever the sizes', async () => {
        await teach(200, 'single')
        await submit(CAROL, units(1))
        const waiters = [
          await submit(ALICE, units(4)),
          await submit(BOB, units(1)),
          await submit(ALICE, units(1)),
        ]
        const known = await Promise.all(waiters.map(({ job }) => jobs.get(job.id, { id: job.owner })))
        expect(known.map(({ position }) => position)).toEqual([1, 2, 3])
        const [a1, b1, a2] = known.map(({ expectedAt }) => expectedAt as number) as [number, number, number]
        expect(a1).toBeLessThan(b1)
        expect(b1).toBeLessThan(a2)
      })

      test('over its share of the queue a caller comes back when its own first picture starts', async () => {
        await teach(600, 'crowded')
        await submit(CAROL, { model: 'crowded' })
        for (const id of ['alice', 'bob', 'dave', 'erin'])
          for (let index = 0; index < 3; index += 1) await submit({ id }, { model: 'crowded' })
        const refusal = await submit(ALICE, { model: 'crowded' }).catch((error) => error)
        expect(refusal).toMatchObject({ code: 'rate_limited' })
        // Only the running picture goes before alice's first one.
        expect(refusal.retryAfterSeconds).toBeLessThanOrEqual(Math.ceil(estimate('crowded') / 1000))
      })
    })

    describe('fairness', () => {
      const inTurn = async (waiters: readonly Waiter[]) => {
        const order: string[] = []
        for (let index = 0; index < waiters.length; index += 1) {
          const { request, finish } = await run(index)
          order.push(request.prompt)
          finish()
          await eventually(() => expect(lane('single').ended.succeeded).toBe(index + 1))
        }
        return order
      }

      test('a newcomer starts next though another caller has 100 waiting', async () => {
        const waiters = [await submit(ALICE, { model: 'single', prompt: 'a' })]
        for (let index = 0; index < 100; index += 1)
          waiters.push(await submit(ALICE, { model: 'single', prompt: 'a' }))
        const newcomer = await submit(BOB, { model: 'single', prompt: 'b' }).catch((error) => error)
        // The queue holds 100: the newcomer is refused for that alone, and comes back when one place is free.
        expect(newcomer).toMatchObject({ code: 'overloaded' })
        ;(await run(0)).finish()
        await eventually(() => expect(lane('single').queued).toBe(99))
        const admitted = await submit(BOB, { model: 'single', prompt: 'b' })
        expect((await jobs.get(admitted.job.id, BOB)).position).toBeLessThanOrEqual(1)
        ;(await run(1)).finish()
        expect((await run(2)).request.prompt).toBe('b')
      })

      test('with k backlogged callers a newcomer starts after at most k services', async () => {
        const waiters: Waiter[] = []
        for (const prompt of ['a', 'b', 'c'])
          for (let index = 0; index < 4; index += 1)
            waiters.push(await submit({ id: prompt }, { model: 'single', prompt }))
        waiters.push(await submit({ id: 'z' }, { model: 'single', prompt: 'z' }))
        const order = await inTurn(waiters)
        // One ran already when z came; after it at most one of each of the three.
        expect(order.indexOf('z')).toBeLessThanOrEqual(1 + 3)
        expect([...order].sort()).toEqual([...'aaaabbbbccccz'])
      })

      describe('what does not run costs its caller nothing', () => {
        const ask = (prompt: string, options?: SubmitOptions) =>
          submit({ id: prompt[0] as string }, { model: 'single', prompt }, options)
        const askAll = async (prompts: string, options?: SubmitOptions) => {
          const waiters: Waiter[] = []
          for (const prompt of prompts.split(' ')) waiters.push(await ask(prompt, options))
          return waiters
        }
        const cancel = ({ job }: Waiter) => jobs.cancel(job.id, { id: job.owner })
        /** Finishes what runs, one after the other; returns the prompts in the order of their runs. */
        const finishAll = async () => {
          const order: string[] = []
          for (let index = 0; ; index += 1) {
            const { request, finish } = await run(index)
            order.push(request.prompt)
            finish()
            await eventually(() => expect(lane('single').ended.succeeded).toBe(index + 1))
            if (lane('single').running + lane('single').queued === 0) return order.join(' ')
          }
        }

        test('cancelled jobs', async () => {
          await ask('c')
          const [a1, a2, a3] = await askAll('a1 a2 a3 a4')
          await askAll('b1 b2 b3')
          for (const waiter of [a1, a2, a3]) await cancel(waiter as Waiter)
          expect(await finishAll()).toBe('c a4 b1 b2 b3')
        })

        test('jobs that expired in the queue', async () => {
          await ask('c')
          const late = await askAll('a1 a2 a3', { deadlineMs: 100 })
          await askAll('a4 b1 b2 b3')
          for (const waiter of late) await state(waiter, 'expired')
          expect(await finishAll()).toBe('c a4 b1 b2 b3')
        })

        test('jobs that were abandoned', async () => {
          await ask('c')
          const left = await askAll('a1 a2 a3')
          await askAll('a4 b1 b2 b3')
          for (const waiter of left) await waiter.leave()
          for (const waiter of left) await state(waiter, 'cancelled')
          expect(await finishAll()).toBe('c a4 b1 b2 b3')
        })

        test('a caller who replaces its job again and again keeps its turn', async () => {
          await ask('c')
          await askAll('b1 b2 b3')
          let oldest = await ask('a0')
          for (const prompt of ['a1', 'a2', 'a3', 'a4', 'a5']) {
            const newer = await ask(prompt)
            await cancel(oldest)
            oldest = newer
          }
          expect(await finishAll()).toBe('c b1 a5 b2 b3')
        })

        test('jobs in the middle of a line, of several sizes', async () => {
          await ask('c')
          const sized = (prompt: string, count: number) =>
            submit({ id: prompt[0] as string }, { model: 'single', prompt, ...SIZES[count] })
          await sized('a1', 1)
          const a2 = await sized('a2', 8)
          await sized('a3', 1)
          for (const prompt of ['b1', 'b2', 'b3']) await sized(prompt, 1)
          await cancel(a2)
          expect(await finishAll()).toBe('c a1 b1 a3 b2 b3')
        })

        test('when the queue runs empty nobody owes anybody anything', async () => {
          await ask('c')
          const [, b1, a2] = await askAll('a1 b1 a2')
          ;(await run(0)).finish()
          await run(1)
          await cancel(b1 as Waiter)
          await cancel(a2 as Waiter)
          await askAll('a3 b2')
          ;(await run(1)).finish()
          expect((await run(2)).request.prompt).toBe('a3')
        })
      })
    })

    describe('a run', () => {
      test('reports its steps, stores the picture under the id of the job, and frees the slot', async () => {
        const waiter = await submit(ALICE, { seed: 5 })
        const seen: Job[] = []
        const watching = (async () => {
          for await (const job of waiter.watch()) seen.push(job)
        })()
        const { step, finish } = await run(0)
        await eventually(() => expect(seen.at(-1)?.state).toBe('running'))
        step(1, 2)
        await eventually(() => expect(seen.at(-1)?.progress).toEqual({ step: 1, steps: 2 }))
        finish()
        await watching
        expect(seen.at(-1)).toMatchObject({ state: 'succeeded', image: { seed: 5 } })
        const stored = await images.get(waiter.job.imageId)
        expect(stored?.record).toMatchObject({
          job_id: waiter.job.id,
          owner: 'alice',
          prompt: 'a fox',
          target: 'gpu',
        })
        expect(stored?.record.bytes).toBe(stored?.png.byteLength)
        await eventually(() =>
          expect(lane()).toMatchObject({ running: 0, releasing: 0, ended: { succeeded: 1 } }),
        )
        expect(lane()).toMatchObject({
          wait_ms: { p50: expect.any(Number) },
          service_ms: { p95: expect.any(Number) },
        })
      })

      test('lets the next one start when it ends, whichever way', async () => {
        const waiters: Waiter[] = []
        for (let index = 0; index < 4; index += 1) waiters.push(await submit())
        ;(await run(0)).finish()
        ;(await run(1)).fail(new AppError('runtime_failed', 'The runtime broke.'))
        expect((await end(waiters[0] as Waiter)).state).toBe('succeeded')
        expect(await end(waiters[1] as Waiter)).toMatchObject({
          state: 'failed',
          error: { code: 'runtime_failed' },
        })
        await run(3)
        expect(lane()).toMatchObject({ running: 2, queued: 0 })
        addsUp()
      })

      test('keeps the text of an unknown failure private', async () => {
        const waiter = await submit()
        ;(await run(0)).fail(new Error('secret host name'))
        const job = await end(waiter)
        expect(job.error).toMatchObject({ code: 'internal' })
        expect(JSON.stringify(job)).not.toContain('secret host name')
      })

      test('a slow reader misses snapshots in between, never the last', async () => {
        const waiter = await submit()
        const { step, finish } = await run(0)
        const reader = waiter.watch()[Symbol.asyncIterator]()
        await reader.next()
        for (let index = 1; index <= 100; index += 1) step(index, 100)
        finish()
        await state(waiter, 'succeeded')
        let read = 0
        let last: Job | undefined
        for (;;) {
          const { done, value } = await reader.next()
          if (done) break
          read += 1
          last = value
        }
        expect(last?.state).toBe('succeeded')
        expect(read).toBeLessThan(100)
      })
    })

    describe('once', () => {
      test('the same key 50 times in parallel is one picture and 50 equal answers', async () => {
        const waiters = await Promise.all(
          Array.from({ length: 50 }, () => submit(ALICE, {}, { idempotencyKey: 'retry-1' })),
        )
        expect(new Set(waiters.map(({ job }) => job.id)).size).toBe(1)
        expect(waiters.filter(({ joined }) => !joined)).toHaveLength(1)
        ;(await run(0)).finish()
        const ended = await Promise.all(waiters.map(end))
        expect(new Set(ended.map((job) => JSON.stringify(job))).size).toBe(1)
        expect(runtime.runs).toHaveLength(1)
      })

      test('a retry of accepted work is never refused, however full the queue', async () => {
        const first = await submit(ALICE, {}, { idempotencyKey: 'k' })
        for (const caller of [ALICE, BOB, ALICE, BOB, BOB]) await submit(caller)
        await expect(submit(CAROL)).rejects.toMatchObject({ code: 'overloaded' })
        const retry = await submit(ALICE, {}, { idempotencyKey: 'k', deadlineMs: 1 })
        expect(retry.job.id).toBe(first.job.id)
      })

      test('a retry after success gets the same picture', async () => {
        const first = await submit(ALICE, {}, { idempotencyKey: 'k' })
        ;(await run(0)).finish()
        await end(first)
        const retry = await submit(ALICE, {}, { idempotencyKey: 'k' })
        expect(retry.job).toMatchObject({ id: first.job.id, state: 'succeeded' })
      })

      test('unless that picture was deleted: then it is made anew, once', async () => {
        const first = await submit(ALICE, {}, { idempotencyKey: 'k' })
        ;(await run(0)).finish()
        await end(first)
        await images.delete(first.job.imageId)
        const again = await Promise.all([1, 2, 3].map(() => submit(ALICE, {}, { idempotencyKey: 'k' })))
        expect(new Set(again.map(({ job }) => job.id)).size).toBe(1)
        expect(again[0]?.job.id).not.toBe(first.job.id)
      })

      test('another request under the same key is a conflict', async () => {
        await submit(ALICE, {}, { idempotencyKey: 'k' })
        await expect(submit(ALICE, { width: 64 }, { idempotencyKey: 'k' })).rejects.toMatchObject({
          code: 'conflict',
        })
        await expect(submit(ALICE, { model: 'single' }, { idempotencyKey: 'k' })).rejects.toMatchObject({
          code: 'conflict',
        })
        expect(lane().refused.conflict + lane('single').refused.conflict).toBe(2)
      })

      test('the same request said otherwise is the same request', async () => {
        const first = await submit(ALICE, { width: 512 }, { idempotencyKey: 'k' })
        const retry = await submit(ALICE, { model: 'gpu', height: 512 }, { idempotencyKey: 'k' })
        expect(retry.job.id).toBe(first.job.id)
      })

      test.each(['failed', 'cancelled', 'expired'])(
        'after a job that %s the key starts anew',
        async (how) => {
          const first = await submit(
            ALICE,
            {},
            { idempotencyKey: 'k', ...(how === 'expired' ? { deadlineMs: 50 } : {}) },
          )
          const { fail } = await run(0)
          if (how === 'failed') fail(new AppError('runtime_failed', 'x'))
          if (how === 'cancelled') await jobs.cancel(first.job.id, ALICE)
          await state(first, how)
          expect((await submit(ALICE, {}, { idempotencyKey: 'k' })).job.id).not.toBe(first.job.id)
        },
      )

      test('keys belong to their caller', async () => {
        const [a, b] = [
          await submit(ALICE, {}, { idempotencyKey: 'k' }),
          await submit(BOB, { width: 64 }, { idempotencyKey: 'k' }),
        ]
        expect(a.job.id).not.toBe(b.job.id)
      })

      test('without a key identical requests join only when they carry a seed', async () => {
        const [a, b] = [await submit(ALICE, { seed: 1 }), await submit(ALICE, { seed: 1 })]
        expect(b).toMatchObject({ joined: true, job: { id: a.job.id } })
        const [c, d] = [await submit(ALICE), await submit(ALICE)]
        expect(d.job.id).not.toBe(c.job.id)
        expect((await submit(BOB, { seed: 1 })).job.id).not.toBe(a.job.id)
      })

      test('whoever joins may allow more time, never less', async () => {
        const first = await submit(ALICE, { seed: 1 }, { deadlineMs: 200 })
        await submit(ALICE, { seed: 1 }, { deadlineMs: 10_000 })
        await submit(ALICE, { seed: 1 }, { deadlineMs: 50 })
        await new Promise((resolve) => setTimeout(resolve, 350))
        expect((await jobs.get(first.job.id, ALICE)).state).toBe('running')
      })
    })

    describe('leaving', () => {
      test('the last waiter makes an orphan: after the grace it is cancelled, in the runtime too', async () => {
        const waiter = await submit()
        const { signal } = await run(0)
        await waiter.leave()
        expect(signal.aborted).toBe(false)
        await state(waiter, 'cancelled')
        expect(signal.aborted).toBe(true)
        await eventually(() => expect(lane()).toMatchObject({ running: 0, releasing: 0 }))
        addsUp()
      })

      test('within the grace an identical request adopts it, seed or not, and gets the same picture', async () => {
        const waiter = await submit()
        const { finish, signal } = await run(0)
        await waiter.leave()
        const adopter = await submit()
        expect(adopter).toMatchObject({ joined: true, job: { id: waiter.job.id } })
        await new Promise((resolve) => setTimeout(resolve, GRACE_MS * 1.5))
        expect(signal.aborted).toBe(false)
        expect((await jobs.get(waiter.job.id, ALICE)).state).toBe('running')
        finish()
        expect((await end(adopter)).state).toBe('succeeded')
        expect(runtime.runs).toHaveLength(1)
      })

      test('each time a job becomes an orphan its grace begins anew', async () => {
        const waiter = await submit()
        await run(0)
        await waiter.leave()
        await new Promise((resolve) => setTimeout(resolve, GRACE_MS * 0.6))
        const adopter = await submit()
        await adopter.leave()
        await new Promise((resolve) => setTimeout(resolve, GRACE_MS * 0.6))
        expect((await submit()).job.id).toBe(waiter.job.id)
      })

      test('a key that came with the adoption finds the job from then on', async () => {
        const waiter = await submit()
        await run(0)
        await waiter.leave()
        await submit(ALICE, {}, { idempotencyKey: 'k' })
        expect((await submit(ALICE, {}, { idempotencyKey: 'k' })).job.id).toBe(waiter.job.id)
      })

      test('nobody else adopts it, and no other request does', async () => {
        const waiter = await submit()
        await run(0)
        await waiter.leave()
        expect((await submit(BOB)).job.id).not.toBe(waiter.job.id)
        expect((await submit(ALICE, { width: 64 })).job.id).not.toBe(waiter.job.id)
      })

      test('where callers cannot be told apart nobody adopts, and it ends at once', async () => {
        const waiter = await submit(ANONYMOUS)
        const { signal } = await run(0)
        await waiter.leave()
        expect((await submit(ANONYMOUS)).job.id).not.toBe(waiter.job.id)
        await eventually(() => expect(signal.aborted).toBe(true), GRACE_MS / 2)
      })

      test('one of two waiters leaves the other’s picture alone', async () => {
        const [a, b] = [await submit(ALICE, { seed: 1 }), await submit(ALICE, { seed: 1 })]
        const { finish } = await run(0)
        await a.leave()
        await a.leave()
        await new Promise((resolve) => setTimeout(resolve, GRACE_MS * 1.5))
        finish()
        expect((await end(b)).state).toBe('succeeded')
      })

      test('a queued orphan never reaches the runtime', async () => {
        const waiters: Waiter[] = []
        for (let index = 0; index < 3; index += 1) waiters.push(await submit())
        await waiters[2]?.leave()
        await state(waiters[2] as Waiter, 'cancelled')
        ;(await run(0)).finish()
        await end(waiters[0] as Waiter)
        expect(runtime.runs).toHaveLength(2)
      })

      test('an orphan whose turn comes within the grace runs, and is still cancelled at its end', async () => {
        const waiters: Waiter[] = []
        for (let index = 0; index < 3; index += 1) waiters.push(await submit())
        await waiters[2]?.leave()
        ;(await run(0)).finish()
        const { signal } = await run(2)
        await eventually(() => expect(signal.aborted).toBe(true))
        expect((await jobs.get(waiters[2]?.job.id as string, ALICE)).state).toBe('cancelled')
      })

      test('a job whose handle was given out goes on without anybody', async () => {
        const waiter = await submit()
        await waiter.detach()
        await waiter.leave()
        await new Promise((resolve) => setTimeout(resolve, GRACE_MS * 1.5))
        ;(await run(0)).finish()
        await state(waiter, 'succeeded')
      })

      test('closing a watch by id cancels nothing', async () => {
        const waiter = await submit()
        await waiter.detach()
        await waiter.leave()
        const abort = new AbortController()
        const watching = (async () => {
          for await (const _ of jobs.watch(waiter.job.id, ALICE, abort.signal));
        })()
        abort.abort()
        await watching
        await new Promise((resolve) => setTimeout(resolve, GRACE_MS * 1.5))
        expect((await jobs.get(waiter.job.id, ALICE)).state).toBe('running')
      })
    })

    describe('cancel', () => {
      test('ends a job for everybody who joined it, and in the runtime', async () => {
        const [a, b] = [await submit(ALICE, { seed: 1 }), await submit(ALICE, { seed: 1 })]
        const { signal } = await run(0)
        expect(await jobs.cancel(a.job.id, ALICE)).toMatchObject({
          state: 'cancelled',
          error: { code: 'cancelled' },
        })
        expect((await end(a)).state).toBe('cancelled')
        expect((await end(b)).state).toBe('cancelled')
        await eventually(() => expect(signal.aborted).toBe(true))
      })

      test('moves the others in the queue up', async () => {
        const waiters: Waiter[] = []
        for (let index = 0; index < 4; index += 1) waiters.push(await submit())
        await jobs.cancel(waiters[2]?.job.id as string, ALICE)
        await eventually(async () =>
          expect((await jobs.get(waiters[3]?.job.id as string, ALICE)).position).toBe(1),
        )
      })

      test('leaves a finished job as it is', async () => {
        const waiter = await submit()
        ;(await run(0)).finish()
        await end(waiter)
        expect(await jobs.cancel(waiter.job.id, ALICE)).toMatchObject({ state: 'succeeded' })
      })
    })

    describe('a handle belongs to its caller', () => {
      test.each(['get', 'cancel'] as const)('%s of another caller’s job is not_found', async (method) => {
        const { job } = await submit()
        for (const other of [BOB, ANONYMOUS])
          await expect(jobs[method](job.id, other)).rejects.toMatchObject({ code: 'not_found' })
      })

      test('watching it too', async () => {
        const { job } = await submit()
        await expect(jobs.watch(job.id, BOB)[Symbol.asyncIterator]().next()).rejects.toMatchObject({
          code: 'not_found',
        })
      })
    })

    describe('the deadline', () => {
      test('ends a running job as expired, in the runtime too', async () => {
        const waiter = await submit(ALICE, {}, { deadlineMs: 100 })
        const { signal } = await run(0)
        expect(await end(waiter)).toMatchObject({ state: 'expired', error: { code: 'deadline_exceeded' } })
        await eventually(() => expect(signal.aborted).toBe(true))
      })

      test('ends a queued job without running it', async () => {
        for (let index = 0; index < 2; index += 1) await submit()
        const late = await submit(ALICE, {}, { deadlineMs: 100 })
        expect((await end(late)).state).toBe('expired')
        ;(await run(0)).finish()
        await eventually(() => expect(lane()).toMatchObject({ running: 1, queued: 0 }))
        expect(runtime.runs).toHaveLength(2)
      })

      test('holds for a detached job as well', async () => {
        const waiter = await submit(ALICE, {}, { deadlineMs: 100 })
        await waiter.detach()
        await waiter.leave()
        await state(waiter, 'expired')
      })
    })

    describe('drain', () => {
      test('refuses new work, finishes what was accepted, and is done then', async () => {
        const waiters: Waiter[] = []
        for (let index = 0; index < 3; index += 1) waiters.push(await submit())
        const drained = jobs.drain({ timeoutMs: 60_000 })
        await expect(submit(BOB)).rejects.toMatchObject({ code: 'overloaded' })
        for (let index = 0; index < 3; index += 1) (await run(index)).finish()
        await drained
        const states = await Promise.all(
          waiters.map(async ({ job }) => (await jobs.get(job.id, ALICE)).state),
        )
        expect(states).toEqual(['succeeded', 'succeeded', 'succeeded'])
      })

      test('a retry of accepted work is not new: it joins', async () => {
        const done = await submit(ALICE, {}, { idempotencyKey: 'done' })
        ;(await run(0)).finish()
        await end(done)
        const running = await submit(ALICE, { width: 64 }, { idempotencyKey: 'running' })
        const drained = jobs.drain({ timeoutMs: 60_000 })
        for (const [waiter, request] of [
          [done, {}],
          [running, { width: 64 }],
        ] as const) {
          const key = waiter === done ? 'done' : 'running'
          const retry = await submit(ALICE, request, { idempotencyKey: key })
          expect(retry).toMatchObject({ joined: true, job: { id: waiter.job.id } })
        }
        ;(await run(1)).finish()
        await drained
      })

      test('a job whose handle was given out meanwhile goes on without anybody', async () => {
        const waiter = await submit()
        const drained = jobs.drain({ timeoutMs: 60_000 })
        await waiter.detach()
        await waiter.leave()
        // Longer than the grace and the pause between two sweeps of it.
        await new Promise((resolve) => setTimeout(resolve, GRACE_MS * 4))
        ;(await run(0)).finish()
        await drained
        await state(waiter, 'succeeded')
      })
    })
  })
}
