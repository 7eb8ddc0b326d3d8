/** Anonymous callers: any two of them may be strangers, so their calls share nothing. */
import { describe, expect, test } from 'vitest'
import { ANONYMOUS, LOCAL } from '../../../src/auth/caller.ts'
import { eventually } from '../../support/eventually.ts'
import { ALICE, createJobsSuite, type MakeJobs } from './suite.ts'

const KEY = { idempotencyKey: 'order-1' }

export function strangers(make: MakeJobs): void {
  describe('where callers cannot be told apart', () => {
    const suite = createJobsSuite(make)
    const { submit, lane, run, end } = suite

    test('equal requests with a seed are two pictures, under one key too', async () => {
      const a = await submit(ANONYMOUS, { seed: 77 })
      const others = [
        await submit(ANONYMOUS, { seed: 77 }),
        await submit(ANONYMOUS, { seed: 77 }, KEY),
        await submit(ANONYMOUS, { seed: 77 }, KEY),
      ]
      expect(others.map(({ joined }) => joined)).toEqual([false, false, false])
      expect(new Set([a, ...others].map(({ job }) => job.id)).size).toBe(4)
      expect(new Set([a, ...others].map(({ job }) => job.imageId)).size).toBe(4)
    })

    test('a key that another call sent is no conflict, and does not find its picture', async () => {
      const first = await submit(ANONYMOUS, {}, KEY)
      ;(await run(0)).finish()
      await end(first)
      for (const request of [{}, { width: 64 }])
        expect((await submit(ANONYMOUS, request, KEY)).job.id).not.toBe(first.job.id)
      expect(lane().refused.conflict).toBe(0)
    })

    test('cancel of one leaves the other alone', async () => {
      const [victim, other] = [
        await submit(ANONYMOUS, { seed: 77 }, KEY),
        await submit(ANONYMOUS, { seed: 77 }, KEY),
      ]
      const { finish } = await run(0)
      await run(1)
      await suite.jobs.cancel(other.job.id, ANONYMOUS)
      expect((await end(other)).state).toBe('cancelled')
      finish()
      expect((await end(victim)).state).toBe('succeeded')
    })

    test('a job that was given up is nobody else’s, and a full queue refuses its retry', async () => {
      const running = [await submit(ANONYMOUS, {}, KEY), await submit(ANONYMOUS)]
      for (let index = 0; index < 4; index += 1) await submit(ANONYMOUS)
      await expect(submit(ANONYMOUS, {}, KEY)).rejects.toMatchObject({ code: 'overloaded' })
      const { signal } = await run(0)
      await running[0]?.leave()
      await eventually(() => expect(signal.aborted).toBe(true))
    })

    test('who knows the id may watch and cancel', async () => {
      const { job } = await submit(ANONYMOUS)
      expect(await suite.jobs.get(job.id, ANONYMOUS)).toMatchObject({ id: job.id })
      expect(await suite.jobs.cancel(job.id, ANONYMOUS)).toMatchObject({ state: 'cancelled' })
    })

    test('callers with a name go on sharing their own, who started the server on stdio too', async () => {
      for (const caller of [ALICE, LOCAL]) {
        await submit(ANONYMOUS, { seed: 77 }, KEY)
        const first = await submit(caller, { seed: 77 }, KEY)
        expect(await submit(caller, { seed: 77 }, KEY)).toMatchObject({
          joined: true,
          job: { id: first.job.id },
        })
      }
    })
  })
}
