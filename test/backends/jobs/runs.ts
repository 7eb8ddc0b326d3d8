/** From the free slot to the stored picture. */
import { describe, expect, test } from 'vitest'
import { AppError } from '../../../src/errors.ts'
import type { Job, Waiter } from '../../../src/jobs/job.ts'
import { eventually } from '../../support/eventually.ts'
import { ALICE, createJobsSuite, type MakeJobs } from './suite.ts'

export function runs(make: MakeJobs): void {
  describe('a run', () => {
    const suite = createJobsSuite(make)
    const { submit, lane, run, end, state, addsUp } = suite
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
      const stored = await suite.images.get(waiter.job.imageId)
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
      await eventually(() => expect(lane()).toMatchObject({ running: 2, queued: 0 }))
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
}
