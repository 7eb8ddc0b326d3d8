/** Waiters that leave, and the orphans that they leave behind. */
import { describe, expect, test } from 'vitest'
import { ANONYMOUS } from '../../../src/auth/caller.ts'
import type { Waiter } from '../../../src/jobs/job.ts'
import { eventually } from '../../support/eventually.ts'
import { ALICE, BOB, createJobsSuite, type MakeJobs } from './suite.ts'

/** A grace that passes within a test, and one that is not over before the test goes on, on a slow machine too. */
const SHORT_MS = 300
const MIDDLE_MS = 1500
/** Longer than a short grace and the pause until a backend looks for orphans; milliseconds. */
const PAST_SHORT_MS = SHORT_MS + 700

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

export function adoption(make: MakeJobs): void {
  describe('within the grace', () => {
    const suite = createJobsSuite(make)
    const { submit, run, end } = suite

    test('an identical request adopts the orphan, seed or not, and gets the same picture', async () => {
      const waiter = await submit()
      const { finish, signal } = await run(0)
      await waiter.leave()
      const adopter = await submit()
      expect(adopter).toMatchObject({ joined: true, job: { id: waiter.job.id } })
      expect(signal.aborted).toBe(false)
      expect((await suite.jobs.get(waiter.job.id, ALICE)).state).toBe('running')
      finish()
      expect((await end(adopter)).state).toBe('succeeded')
      expect(suite.runtime.runs).toHaveLength(1)
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
      // The grace of everybody else is much longer than what this waits for.
      await eventually(() => expect(signal.aborted).toBe(true))
    })
  })
}

export function abandonment(make: MakeJobs): void {
  describe('after the grace', () => {
    const suite = createJobsSuite(make, { graceMs: SHORT_MS })
    const { submit, lane, run, end, state, addsUp } = suite

    test('an orphan is cancelled, in the runtime too', async () => {
      const waiter = await submit()
      const { signal } = await run(0)
      await waiter.leave()
      await state(waiter, 'cancelled')
      await eventually(() => expect(signal.aborted).toBe(true))
      await eventually(() => expect(lane()).toMatchObject({ running: 0, releasing: 0 }))
      addsUp()
    })

    test('a queued orphan never reaches the runtime', async () => {
      const waiters: Waiter[] = []
      for (let index = 0; index < 3; index += 1) waiters.push(await submit())
      await waiters[2]?.leave()
      await state(waiters[2] as Waiter, 'cancelled')
      ;(await run(0)).finish()
      await end(waiters[0] as Waiter)
      expect(suite.runtime.runs).toHaveLength(2)
    })
  })

  describe('a grace of its own', () => {
    const suite = createJobsSuite(make, { graceMs: MIDDLE_MS })
    const { submit, run, end } = suite

    test('an orphan that was adopted outlives its grace', async () => {
      const waiter = await submit()
      const { finish, signal } = await run(0)
      await waiter.leave()
      const adopter = await submit()
      await sleep(MIDDLE_MS + PAST_SHORT_MS)
      expect(signal.aborted).toBe(false)
      finish()
      expect((await end(adopter)).state).toBe('succeeded')
    })

    test('each time a job becomes an orphan its grace begins anew', async () => {
      const waiter = await submit()
      await run(0)
      await waiter.leave()
      await sleep(MIDDLE_MS * 0.6)
      const adopter = await submit()
      await adopter.leave()
      await sleep(MIDDLE_MS * 0.6)
      expect((await submit()).job.id).toBe(waiter.job.id)
    })

    test('an orphan whose turn comes within the grace runs, and is still cancelled at its end', async () => {
      const waiters: Waiter[] = []
      for (let index = 0; index < 3; index += 1) waiters.push(await submit())
      await waiters[2]?.leave()
      ;(await run(0)).finish()
      const { signal } = await run(2)
      await eventually(() => expect(signal.aborted).toBe(true))
      expect((await suite.jobs.get(waiters[2]?.job.id as string, ALICE)).state).toBe('cancelled')
    })
  })
}

export function leaving(make: MakeJobs): void {
  describe('leaving', () => {
    const suite = createJobsSuite(make, { graceMs: SHORT_MS })
    const { submit, run, end, state } = suite

    test('one of two waiters leaves the other’s picture alone', async () => {
      const [a, b] = [await submit(ALICE, { seed: 1 }), await submit(ALICE, { seed: 1 })]
      const { finish } = await run(0)
      await a.leave()
      await a.leave()
      await sleep(PAST_SHORT_MS)
      finish()
      expect((await end(b)).state).toBe('succeeded')
    })

    test('a job whose handle was given out goes on without anybody', async () => {
      const waiter = await submit()
      await waiter.detach()
      await waiter.leave()
      await sleep(PAST_SHORT_MS)
      ;(await run(0)).finish()
      await state(waiter, 'succeeded')
    })

    test('so it does when the handle was given out because the server stops', async () => {
      const waiter = await submit()
      const drained = suite.jobs.drain({ timeoutMs: 60_000 })
      await waiter.detach()
      await waiter.leave()
      await sleep(PAST_SHORT_MS)
      ;(await run(0)).finish()
      await drained
      await state(waiter, 'succeeded')
    })

    test('closing a watch by id cancels nothing', async () => {
      const waiter = await submit()
      await waiter.detach()
      await waiter.leave()
      const abort = new AbortController()
      const watching = (async () => {
        for await (const _ of suite.jobs.watch(waiter.job.id, ALICE, abort.signal));
      })()
      abort.abort()
      await watching
      await sleep(PAST_SHORT_MS)
      expect((await suite.jobs.get(waiter.job.id, ALICE)).state).toBe('running')
    })
  })
}
