/** Retries and identical requests: one picture. */
import { describe, expect, test } from 'vitest'
import { AppError } from '../../../src/errors.ts'
import { ALICE, BOB, CAROL, createJobsSuite, type MakeJobs } from './suite.ts'

export function retries(make: MakeJobs): void {
  describe('a retry', () => {
    const suite = createJobsSuite(make)
    const { submit, run, end } = suite
    test('the same key 50 times in parallel is one picture and 50 equal answers', async () => {
      const waiters = await Promise.all(
        Array.from({ length: 50 }, () => submit(ALICE, {}, { idempotencyKey: 'retry-1' })),
      )
      expect(new Set(waiters.map(({ job }) => job.id)).size).toBe(1)
      expect(waiters.filter(({ joined }) => !joined)).toHaveLength(1)
      ;(await run(0)).finish()
      const ended = await Promise.all(waiters.map(end))
      expect(new Set(ended.map((job) => JSON.stringify(job))).size).toBe(1)
      expect(suite.runtime.runs).toHaveLength(1)
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
      await suite.images.delete(first.job.imageId)
      const again = await Promise.all([1, 2, 3].map(() => submit(ALICE, {}, { idempotencyKey: 'k' })))
      expect(new Set(again.map(({ job }) => job.id)).size).toBe(1)
      expect(again[0]?.job.id).not.toBe(first.job.id)
    })
  })
}

export function joins(make: MakeJobs): void {
  describe('joining', () => {
    const suite = createJobsSuite(make)
    const { submit, lane, run, state } = suite
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

    test.each(['failed', 'cancelled', 'expired'])('after a job that %s the key starts anew', async (how) => {
      const first = await submit(
        ALICE,
        {},
        { idempotencyKey: 'k', deadlineMs: how === 'expired' ? 50 : undefined },
      )
      if (how === 'failed') (await run(0)).fail(new AppError('runtime_failed', 'x'))
      if (how === 'cancelled') await suite.jobs.cancel(first.job.id, ALICE)
      await state(first, how)
      expect((await submit(ALICE, {}, { idempotencyKey: 'k' })).job.id).not.toBe(first.job.id)
    })

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
      const first = await submit(ALICE, { seed: 1 }, { deadlineMs: 1500 })
      await submit(ALICE, { seed: 1 }, { deadlineMs: 60_000 })
      await submit(ALICE, { seed: 1 }, { deadlineMs: 50 })
      // Past both shorter deadlines, and the pause until a backend looks for them.
      await new Promise((resolve) => setTimeout(resolve, 1500 + 700))
      expect((await suite.jobs.get(first.job.id, ALICE)).state).toBe('running')
    })
  })
}
