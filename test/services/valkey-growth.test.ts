/**
 * What the book's scripts cost as the queue, the concurrency and the number of callers grow. Counted, not timed: a meter
 * inside the script counts what every command takes and returns.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Job } from '../../src/jobs/job.ts'
import { createFairQueue } from '../../src/jobs/memory/fair-queue.ts'
import type { Submission } from '../../src/jobs/valkey/book/book.ts'
import { NEVER_MS, useMeteredBook } from '../support/metered-book.ts'
import { findValkeyServer } from '../support/valkey.ts'

describe.skipIf(findValkeyServer() === undefined)('a script of the book', () => {
  const it = useMeteredBook()
  const { asked, admit, start, finish, learn, cost, many } = it

  /** An admission that is refused: one that only looks. */
  const look = async (given: Partial<Submission> = {}) =>
    expect(await it.book.submit(asked({ ownMs: 1000, queueLimit: 1, ...given }))).toMatchObject({
      because: 'full',
    })

  /** Everything that happens to jobs, in a target that grew to `size`. */
  interface State {
    /** Jobs that run, and that wait, in order. */
    readonly running: readonly Job[]
    readonly queued: readonly Job[]
    /** What another submission has to say. */
    readonly next: (index: number) => Partial<Submission>
  }
  const waiting = 20
  const states: Record<string, (size: number) => Promise<State>> = {
    async 'jobs that run'(size) {
      await learn(size)
      const running = await many(size, () => admit({ ownMs: NEVER_MS }))
      const queued = await many(waiting, () => admit({ ownMs: 1000 }))
      return { running, queued, next: () => ({ ownMs: 1000 }) }
    },
    async 'jobs that run and should have been finished'(size) {
      await learn(size)
      const running = await many(size, () => admit({ ownMs: 0.1 }))
      const queued = await many(waiting, () => admit({ ownMs: 1000 }))
      // The first look after their time takes them out of the sum.
      await look()
      return { running, queued, next: () => ({ ownMs: 1000 }) }
    },
    async 'jobs that wait'(size) {
      await learn(1)
      const running = [await admit({ ownMs: NEVER_MS })]
      const queued = await many(size, () => admit({ ownMs: 1000 }))
      return { running, queued, next: () => ({ ownMs: 1000 }) }
    },
    async 'callers who wait'(size) {
      await learn(1)
      const running = [await admit({ ownMs: NEVER_MS })]
      const queued = await many(size, (index) => admit({ owner: `caller ${index}`, ownMs: 1000 }))
      return { running, queued, next: (index) => ({ ownMs: 1000, owner: `newcomer ${index}` }) }
    },
    async 'callers who wait, of two sizes'(size) {
      await learn(1)
      const running = [await admit({ ownMs: NEVER_MS })]
      const queued = await many(size, (index) =>
        admit({ owner: `caller ${index}`, cost: 1 + (index % 2), ownMs: 1000 }),
      )
      return { running, queued, next: (index) => ({ ownMs: 1000, owner: `newcomer ${index}` }) }
    },
    async 'different sizes'(size) {
      await learn(1)
      const running = [await admit({ ownMs: NEVER_MS })]
      const queued = await many(size, (index) =>
        admit({ owner: `caller ${index}`, cost: (index + 1) / 1024, ownMs: 1000 }),
      )
      return { running, queued, next: (index) => ({ ownMs: 1000, owner: `newcomer ${index}` }) }
    },
    async 'callers who were served'(size) {
      await learn(1)
      const first = await admit({ ownMs: NEVER_MS })
      const served = await many(size, (index) => admit({ owner: `caller ${index}`, ownMs: 1000 }))
      const queued = await many(waiting, () => admit({ ownMs: 1000 }))
      for (const { id } of [first, ...served]) {
        await start(id)
        await finish(id)
      }
      return { running: [queued[0]!], queued: queued.slice(1), next: () => ({ ownMs: 1000 }) }
    },
  }

  describe.each(Object.entries(states))('costs the same with ten times as many %s', (_, build) => {
    test('at every step of a job', { timeout: 120_000 }, async () => {
      const costs = async (size: number) => {
        await it.client.flushall()
        const { running, queued, next } = await build(size)
        const last = queued.at(-1)!
        // On a slow machine a sweep repeats deliveries that nobody took.
        await it.client.del(it.key('undelivered'))
        return {
          look: await cost(() => look(next(0))),
          admit: await cost(() => admit(next(1))),
          'get a queued job': await cost(() => it.book.get(last.id)),
          'get many queued jobs': await cost(() =>
            it.book.snapshots({ ids: queued.slice(-waiting + 1).map(({ id }) => id) }),
          ),
          cancel: await cost(() => it.book.event({ id: last.id, owner: last.owner, event: 'cancel' })),
          start: await cost(() => start(running[0]!.id)),
          'finish and grant': await cost(() => finish(running[0]!.id)),
          'sweep with nothing to do': await cost(() => it.book.sweep({ leases: true, targets: ['gpu'] })),
        }
      }
      const [few, more] = [await costs(120), await costs(1200)]
      // One command more or less is no growth.
      for (const [step, count] of Object.entries(few))
        expect(more[step as keyof typeof few], step).toBeLessThan(count * 1.5 + 10)
    })
  })

  describe('what runs', () => {
    /** Milliseconds of work that runs, and until the first slot is free. */
    async function look() {
      const reply = await it.book.submit(asked({ ownMs: 1000, deadlineMs: 1 }))
      if (reply.verdict !== 'refused') throw new Error(`Not refused but ${reply.verdict}.`)
      return [reply.view.aheadMs, reply.view.nextSlotMs]
    }
    /** Two minutes more or less: time goes on. */
    const about = (ms: number) => expect.closeTo(ms, -5.4)

    test('counts as work until it should be finished, or ends', async () => {
      await learn(4)
      const [short, , middle, long] = (await many(4, (index) =>
        admit({ ownMs: [0.1, 1e8, 2e8, 3e8][index]! }),
      )) as [Job, Job, Job, Job]
      expect(await look()).toEqual([about(6e8), 0])
      await start(short.id)
      await finish(short.id)
      expect(await look()).toEqual([about(6e8), about(1e8)])
      await start(long.id)
      await finish(long.id)
      await it.book.event({ id: middle.id, owner: 'alice', event: 'cancel' })
      expect(await look()).toEqual([about(1e8), about(1e8)])
    })

    test('leaves its slot and the sum where its hash is gone', async () => {
      await learn(1)
      const [lost, next] = await many(2, () => admit({ ownMs: 1e8 }))
      await it.client.del(it.key(`job:${lost!.id}`))
      expect(await start(lost!.id)).toMatchObject({ verdict: 'ended' })
      expect(it.granted.at(-1)).toEqual([next!.id])
      expect(await look()).toEqual([about(1e8), about(1e8)])
    })
  })

  test('keeps the order and the costs of the fair queue in memory, with any number of sizes', {
    timeout: 120_000,
  }, async () => {
    const act = fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({
          caller: fc.constantFrom('alice', 'bob', 'carol'),
          steps: fc.oneof(fc.constant(1024), fc.integer({ min: 1, max: 5000 })),
        }),
      },
      { weight: 2, arbitrary: fc.record({ cancel: fc.nat() }) },
      { weight: 2, arbitrary: fc.constant('finish' as const) },
    )
    const play = async (acts: (typeof act extends fc.Arbitrary<infer T> ? T : never)[]) => {
      await it.client.flushall()
      await learn(1)
      // It should have been finished at once, so no time is left of it.
      let running = (await admit({ ownMs: 0.1 })).id
      const model = createFairQueue<string>()
      const owners = new Map<string, string>()
      for (const one of acts) {
        const waiting = model.inOrder()
        if (one === 'finish') {
          if (waiting.length === 0) continue
          await start(running)
          await finish(running)
          running = model.shift() as string
        } else if ('cancel' in one) {
          const id = waiting[one.cancel % waiting.length]
          if (id === undefined) continue
          await it.book.event({ id, owner: owners.get(id) as string, event: 'cancel' })
          model.remove(id)
        } else {
          const { id } = await admit({ owner: one.caller, cost: one.steps / 1024, ownMs: 0.1 })
          owners.set(id, one.caller)
          model.push(id, { caller: one.caller, cost: one.steps / 1024 })
        }
        const ids = model.inOrder()
        const jobs = await it.book.snapshots({ ids })
        expect([...jobs.values()].map(({ position }) => position)).toEqual(ids.map((_, index) => index + 1))
        if (ids.length === 0) continue
        for (const owner of ['alice', 'bob', 'carol', 'dave'])
          expect(await it.book.submit(asked({ owner, ownMs: 1024, queueLimit: 1 }))).toMatchObject({
            because: 'full',
            view: { aheadMs: model.beforeNew(owner).cost * 1024 },
          })
      }
    }
    await fc.assert(fc.asyncProperty(fc.array(act, { minLength: 20, maxLength: 60, size: 'max' }), play), {
      numRuns: 20,
      endOnFailure: true,
    })
  })
})
