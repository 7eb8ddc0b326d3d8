/** What is admitted, what is refused, and with which advice. */
import { describe, expect, test } from 'vitest'
import { ANONYMOUS } from '../../../src/auth/caller.ts'
import type { Waiter } from '../../../src/jobs/job.ts'
import { eventually } from '../../support/eventually.ts'
import { ALICE, BOB, CAROL, createJobsSuite, type MakeJobs, SIZES } from './suite.ts'

export function submitting(make: MakeJobs): void {
  describe('submit', () => {
    const suite = createJobsSuite(make)
    const { submit, lane, run, addsUp } = suite
    test('starts while there is a free slot, then queues, and tells the position', async () => {
      const waiters: Waiter[] = []
      for (const seed of [1, 2, 3, 4]) waiters.push(await submit(ALICE, { seed }))
      await eventually(() => expect(lane()).toMatchObject({ running: 2, queued: 2 }))
      const known = await Promise.all(waiters.map(({ job }) => suite.jobs.get(job.id, ALICE)))
      expect(known.map((job) => job.state)).toEqual(['running', 'running', 'queued', 'queued'])
      expect(known.map((job) => job.position)).toEqual([undefined, undefined, 1, 2])
      addsUp()
    })

    test('fills in the defaults of the target and draws a seed; what was asked for wins', async () => {
      await submit()
      await run(0)
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
}

export function admission(make: MakeJobs): void {
  describe('admission', () => {
    const suite = createJobsSuite(make)
    const { submit, lane, teach, addsUp } = suite
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
      expect((await submit(BOB, {}, { deadlineMs: 10_000 })).job.state).toBe('queued')
    })

    test('too late because of the queue: overloaded, and Retry-After says when it would fit', async () => {
      await teach(400)
      for (let index = 0; index < 5; index += 1) await submit(ALICE)
      // Two run and one goes first: between 1.5 and 2.5 times as long as one picture.
      const deadlineMs = 1.2 * (lane().estimate_ms as number)
      const refusal = await submit(BOB, {}, { deadlineMs }).catch((error) => error)
      expect(refusal).toMatchObject({
        code: 'overloaded',
        message: expect.stringMatching(/would be ready in about/),
      })
      expect(refusal.retryAfterSeconds).toBeLessThanOrEqual(Math.ceil((2 * deadlineMs) / 1000))
      const { job } = await submit(BOB, {}, { deadlineMs: 30_000 })
      expect(job.expectedAt).toBeGreaterThan(performance.now())
    })

    test('too late by itself: deadline_exceeded, with no use in retrying', async () => {
      await teach(300)
      await expect(submit(ALICE, {}, { deadlineMs: 100 })).rejects.toMatchObject({
        code: 'deadline_exceeded',
        retryAfterSeconds: undefined,
      })
      expect(lane().refused.deadline_exceeded).toBe(1)
    })

    test('a size that was not seen follows from others: only a busy target refuses for it, but for one test', async () => {
      await teach(200)
      const large = { width: 1024, height: 1024, num_inference_steps: 50 }
      const outcome = () =>
        submit(ALICE, large, { deadlineMs: 1000 }).then(
          ({ job }) => job.state,
          (error) => error.code,
        )
      for (const caller of [BOB, CAROL]) await submit(caller)
      expect(await outcome()).toBe('queued')
      expect([await outcome(), await outcome()]).toEqual(['deadline_exceeded', 'deadline_exceeded'])
      expect(lane().estimate_ms).toBeGreaterThanOrEqual(190)
    })

    test('tiny pictures of one caller refuse nobody a large one', async () => {
      const tiny = { width: 64, height: 64, num_inference_steps: 1 }
      await teach(100, 'gpu', tiny)
      const waiters = []
      for (const caller of [BOB, BOB, CAROL]) waiters.push(await submit(caller, {}, { deadlineMs: 20_000 }))
      await expect(submit(ALICE, tiny, { deadlineMs: 20_000 })).resolves.toMatchObject({ joined: false })
      expect(lane()).toMatchObject({
        running: 2,
        queued: 2,
        refused: { deadline_exceeded: 0, overloaded: 0 },
      })
    })
  })
}

export function prediction(make: MakeJobs): void {
  describe('prediction', () => {
    const suite = createJobsSuite(make)
    const { submit, lane, teach } = suite
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
      for (const count of [8, 1, 1, 1]) await submit(ALICE, units(count))
      const deadlineMs = 6 * estimate('single')
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
      const known = await Promise.all(waiters.map(({ job }) => suite.jobs.get(job.id, { id: job.owner })))
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
}
