/** Cancel, deadline, shutdown, and whose a handle is. */
import { describe, expect, test } from 'vitest'
import { ANONYMOUS } from '../../../src/auth/caller.ts'
import type { Waiter } from '../../../src/jobs/job.ts'
import { eventually } from '../../support/eventually.ts'
import { ALICE, BOB, createJobsSuite, type MakeJobs } from './suite.ts'

export function cancelling(make: MakeJobs): void {
  describe('cancel', () => {
    const suite = createJobsSuite(make)
    const { submit, run, end } = suite
    test('ends a job for everybody who joined it, and in the runtime', async () => {
      const [a, b] = [await submit(ALICE, { seed: 1 }), await submit(ALICE, { seed: 1 })]
      const { signal } = await run(0)
      expect(await suite.jobs.cancel(a.job.id, ALICE)).toMatchObject({
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
      await suite.jobs.cancel(waiters[2]?.job.id as string, ALICE)
      await eventually(async () =>
        expect((await suite.jobs.get(waiters[3]?.job.id as string, ALICE)).position).toBe(1),
      )
    })

    test('leaves a finished job as it is', async () => {
      const waiter = await submit()
      ;(await run(0)).finish()
      await end(waiter)
      expect(await suite.jobs.cancel(waiter.job.id, ALICE)).toMatchObject({ state: 'succeeded' })
    })
  })
}

export function handles(make: MakeJobs): void {
  describe('a handle belongs to its caller', () => {
    const suite = createJobsSuite(make)
    const { submit } = suite
    test.each(['get', 'cancel'] as const)('%s of another caller’s job is not_found', async (method) => {
      const { job } = await submit()
      for (const other of [BOB, ANONYMOUS])
        await expect(suite.jobs[method](job.id, other)).rejects.toMatchObject({ code: 'not_found' })
    })

    test('watching it too', async () => {
      const { job } = await submit()
      await expect(suite.jobs.watch(job.id, BOB)[Symbol.asyncIterator]().next()).rejects.toMatchObject({
        code: 'not_found',
      })
    })
  })
}

export function deadlines(make: MakeJobs): void {
  describe('the deadline', () => {
    const suite = createJobsSuite(make)
    const { submit, lane, run, end, state } = suite
    test('ends a running job as expired, in the runtime too', async () => {
      // Long enough to be running by then, on a slow machine too.
      const waiter = await submit(ALICE, {}, { deadlineMs: 1500 })
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
      expect(suite.runtime.runs).toHaveLength(2)
    })

    test('holds for a detached job as well', async () => {
      const waiter = await submit(ALICE, {}, { deadlineMs: 100 })
      await waiter.detach()
      await waiter.leave()
      await state(waiter, 'expired')
    })
  })
}

export function draining(make: MakeJobs): void {
  describe('drain', () => {
    const suite = createJobsSuite(make)
    const { submit, run, end } = suite
    test('refuses new work, finishes what was accepted, and is done then', async () => {
      const waiters: Waiter[] = []
      for (let index = 0; index < 3; index += 1) waiters.push(await submit())
      const drained = suite.jobs.drain({ timeoutMs: 60_000 })
      await expect(submit(BOB)).rejects.toMatchObject({ code: 'overloaded' })
      for (let index = 0; index < 3; index += 1) (await run(index)).finish()
      await drained
      const states = await Promise.all(
        waiters.map(async ({ job }) => (await suite.jobs.get(job.id, ALICE)).state),
      )
      expect(states).toEqual(['succeeded', 'succeeded', 'succeeded'])
    })

    test('a retry of accepted work is not new: it joins', async () => {
      const done = await submit(ALICE, {}, { idempotencyKey: 'done' })
      ;(await run(0)).finish()
      await end(done)
      const running = await submit(ALICE, { width: 64 }, { idempotencyKey: 'running' })
      const drained = suite.jobs.drain({ timeoutMs: 60_000 })
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
  })
}
