/** Whose turn it is. */
import { describe, expect, test } from 'vitest'
import type { SubmitOptions, Waiter } from '../../../src/jobs/job.ts'
import { eventually } from '../../support/eventually.ts'
import { ALICE, BOB, createJobsSuite, type MakeJobs, SIZES } from './suite.ts'

export function fairness(make: MakeJobs): void {
  describe('fairness', () => {
    const suite = createJobsSuite(make)
    const { submit, lane, run } = suite
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
      expect((await suite.jobs.get(admitted.job.id, BOB)).position).toBeLessThanOrEqual(1)
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
  })
}

export function withdrawal(make: MakeJobs): void {
  describe('what does not run costs its caller nothing', () => {
    const suite = createJobsSuite(make, { graceMs: 300 })
    const { submit, lane, run, state } = suite
    const ask = (prompt: string, options?: SubmitOptions) =>
      submit({ id: prompt[0] as string }, { model: 'single', prompt }, options)
    const askAll = async (prompts: string, options?: SubmitOptions) => {
      const waiters: Waiter[] = []
      for (const prompt of prompts.split(' ')) waiters.push(await ask(prompt, options))
      return waiters
    }
    const cancel = ({ job }: Waiter) => suite.jobs.cancel(job.id, { id: job.owner })
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
}
