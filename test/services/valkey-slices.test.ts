/** What the book does for many jobs at once: in slices, none of which holds Valkey for long, and in few messages. */
import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { Job } from '../../src/jobs/job.ts'
import type { Submission } from '../../src/jobs/valkey/book/book.ts'
import { eventually } from '../support/eventually.ts'
import { NEVER_MS, useMeteredBook } from '../support/metered-book.ts'
import { findValkeyServer } from '../support/valkey.ts'

describe.skipIf(findValkeyServer() === undefined)('the book', () => {
  const it = useMeteredBook()
  const { admit, open, start, finish, learn, published, measure, cost, many } = it

  test('tells of many jobs at once what it tells of each', async () => {
    await learn(2)
    const jobs: Job[] = []
    for (let index = 0; index < 250; index += 1)
      jobs.push(await admit({ owner: `caller ${index % 7}`, cost: 1 + (index % 3) / 4, ownMs: 1000 }))
    const ids = jobs.map(({ id }) => id)
    const all = await it.book.snapshots({ ids: [...ids, 'unknown'] })
    expect([...all.keys()]).toEqual(ids)
    for (const id of ids) {
      const { expectedAt, ...job } = (await it.book.get(id)) as Job
      expect(all.get(id)).toMatchObject(job)
      // Time goes on from one reading to the next.
      if (job.state === 'queued') expect(all.get(id)?.expectedAt).toBeCloseTo(expectedAt as number, -4)
    }
  })

  test('publishes steps in one message, and only those of jobs that somebody follows', async () => {
    await open(3)
    const waiters = [randomUUID(), randomUUID(), randomUUID()]
    const jobs: Job[] = []
    for (const waiter of waiters) jobs.push(await admit({ waiter }))
    const [waited, watched, left] = jobs.map(({ id }) => id) as [string, string, string]
    for (const id of [waited, watched, left]) await start(id)
    for (const [at, id] of [watched, left].entries()) {
      await it.book.event({ id, owner: 'alice', event: 'detach' })
      await it.book.leave({ id, waiter: waiters[at + 1]! })
    }
    const step = '{"step":1,"steps":2}'
    const report = (...ids: string[]) =>
      it.book.progress({ steps: [...ids, 'unknown'].map((id) => [id, 1, step] as const) })

    expect(await published(() => report(watched, left))).toEqual([])
    await it.book.get(watched, { watch: true })
    const messages = await published(async () => {
      expect(await report(waited, watched, left)).toEqual(['unknown'])
    })
    expect(messages.map((message) => it.book.readChanges(message).steps)).toEqual([
      [
        [waited, step],
        [watched, step],
      ],
    ])
    // Whoever asks later is told all the same.
    expect((await it.book.get(left))?.progress).toEqual({ step: 1, steps: 2 })
  })

  describe.each(['one size', 'two sizes'])('of jobs of %s that end together', (sizes) => {
    const costOf = (index: number) => (sizes === 'one size' ? 1 : 1 + (index % 2))
    /** A slot that is taken, so many jobs whose time is up, and one that can run. */
    async function build(size: number, over: Partial<Submission> = { deadlineMs: 1 }) {
      await it.client.flushall()
      await learn(1)
      const first = await admit()
      await start(first.id)
      const expired = await many(size, (index) => admit({ cost: costOf(index), ...over }))
      const good = await admit({ owner: 'bob' })
      it.forget()
      return { first, expired, good }
    }

    test('one script drops a part, and the others follow until the slot is given away', async () => {
      const longest = async (size: number) => {
        const { first, expired, good } = await build(size)
        // Some have lost their hash, as by a Valkey that evicts.
        const lost = expired.slice(0, size / 3)
        await it.client.del(lost.map(({ id }) => it.key(`job:${id}`)))
        const figures = await measure(async () => {
          await finish(first.id)
          await eventually(async () => expect(it.granted.flat()).toEqual([good.id]))
        })
        expect(new Set(it.ended)).toEqual(new Set([first, ...expired.slice(size / 3)].map(({ id }) => id)))
        return figures.longest
      }
      const few = await longest(300)
      // In a line of different sizes each of the rest moves, all of them once in a script.
      expect(await longest(1500)).toBeLessThan(few * (sizes === 'one size' ? 1.2 : 2))
    })

    test.each([
      ['whose time is up', { deadlineMs: 1 }],
      ['whose server died', { leaseMs: 1, graceMs: 0 }],
    ])('a sweep ends those %s at the cost of what leaves', async (_, over) => {
      const { expired } = await build(400, over)
      const sweep = () => it.book.sweep({ leases: true, targets: ['gpu'] })
      const one = await cost(sweep)
      expect(it.ended).toHaveLength(100)
      // Wherever they stand in their line.
      expect(one).toBeLessThan(100 * 200)
      for (let round = 0; round < 5; round += 1) await sweep()
      expect(new Set(it.ended)).toEqual(new Set(expired.map(({ id }) => id)))
    })
  })

  describe('more slots', () => {
    test('are given away by several scripts, one after the other', async () => {
      await open(1)
      const jobs = await many(500, () => admit())
      it.forget()
      await open(500)
      await eventually(async () => expect(it.granted.flat()).toHaveLength(499))
      expect(Math.max(...it.granted.map((ids) => ids.length))).toBe(100)
      expect(new Set(it.granted.flat())).toEqual(new Set(jobs.slice(1).map(({ id }) => id)))
    })

    test('are given away by sweeps where the server died that had to go on', async () => {
      await open(1)
      await many(150, () => admit())
      it.forget()
      const { client } = it as unknown as { client: { book(...args: string[]): Promise<unknown> } }
      const seen = JSON.stringify([['runtime', 150]])
      const asked = { target: 'gpu', server: 'one', seen, ejected: [], leaseMs: NEVER_MS }
      await client.book(it.key(''), 'see', JSON.stringify(asked))
      await it.book.sweep({ leases: false, targets: ['gpu'] })
      expect(it.granted.flat()).toHaveLength(49)
    })
  })

  test('renews many waiters and runs in slices', async () => {
    await open(1000)
    const leases = Array.from({ length: 1000 }, () => randomUUID())
    const jobs = await many(1000, (index) => admit({ waiter: leases[index]! }))
    await eventually(async () => expect(it.granted.flat()).toHaveLength(1000))
    await many(1000, (index) => start(jobs[index]!.id))
    const waiters = jobs.map(({ id }, index) => [id, leases[index]!] as const)
    const runs = jobs.map(({ id }) => [id, 1] as const)
    for (const job of [jobs[0]!, jobs[999]!]) await finish(job.id)
    const over = [jobs[0]!.id, jobs[999]!.id]
    const longest = async (size: number) => {
      const renewed = await measure(async () => {
        const list = await it.book.renew({ waiters: waiters.slice(0, size), leaseMs: NEVER_MS })
        if (size === 1000) expect(list).toEqual(over)
      })
      const beaten = await measure(async () => {
        const list = await it.book.beat({ runs: runs.slice(0, size), lockMs: NEVER_MS })
        if (size === 1000) expect(list).toEqual(over)
      })
      return [renewed.longest, beaten.longest]
    }
    const [few, all] = [await longest(200), await longest(1000)]
    for (const [index, count] of few.entries()) expect(all[index]).toBeLessThan(count * 1.1)
  })
})
