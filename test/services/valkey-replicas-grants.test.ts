/** Which replica a job gets from the book, whichever servers see it: driven by the book's commands alone. */
import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { Job } from '../../src/jobs/job.ts'
import type { Granted } from '../../src/jobs/valkey/book/book.ts'
import { eventually } from '../support/eventually.ts'
import { NEVER_MS, useMeteredBook } from '../support/metered-book.ts'
import { findValkeyServer } from '../support/valkey.ts'

describe.skipIf(findValkeyServer() === undefined)('the book gives a job', () => {
  const it = useMeteredBook()
  const { admit, start, cost, many, learn } = it

  /** What a server sees: names with their slots, one where it says nothing. */
  const see = (seen: string, more: Partial<Parameters<typeof it.book.see>[0]> = {}) =>
    it.book.see({
      ...{ target: 'gpu', server: 'one', leaseMs: NEVER_MS },
      replicas: seen
        .split(' ')
        .filter(Boolean)
        .map((text) => ({ id: text.split(':')[0]!, slots: Number(text.split(':')[1] ?? 1) })),
      ...more,
    })
  /** The grants since `forget`, as "replica replica". */
  const replicas = () => it.grants.map(({ replica }) => replica).join(' ')
  const grantOf = ({ id }: Job) => it.grants.findLast((grant) => grant.id === id) as Granted
  const finish = async (job: Job, run = 1) =>
    await it.book.finish({ id: job.id, target: 'gpu', run, event: 'finish', image: {} })
  const begin = (job: Job, more: { lockMs?: number; attempt?: string } = {}) =>
    start(job.id, { grant: grantOf(job).grant, attempt: randomUUID(), ...more })
  const again = (job: Job, run: number, replica: string, maxReruns = 3) =>
    it.book.again({
      ...{ id: job.id, target: 'gpu', run, replica, maxReruns },
      exhausted: '{"code":"runtime_failed","message":"used up"}',
    })
  const counts = () => it.counts('gpu')
  const sweep = (leases = true) => it.book.sweep({ leases, targets: ['gpu'] })
  const admitted = async (count: number) => {
    const jobs: Job[] = []
    for (let index = 0; index < count; index += 1) jobs.push(await admit())
    return jobs
  }

  describe('a slot', () => {
    test('of the least busy replica for its size', async () => {
      await see('big:4 small:2')
      await admitted(7)
      // Before each of them: 0/4 0/2, 1/4 0/2, 1/4 1/2, 2/4 1/2 (big came first), 3/4 1/2, 3/4 2/2.
      expect(replicas()).toBe('big small big big small big')
      expect(await counts()).toMatchObject({ concurrency: 6, running: 6, queued: 1 })
    })

    test('of the one that is idle for longest, among equals', async () => {
      await see('a b c')
      const jobs = await admitted(3)
      for (const job of jobs) await begin(job)
      for (const index of [1, 0, 2]) await finish(jobs[index]!)
      it.forget()
      await admitted(3)
      expect(replicas()).toBe('b a c')
    })

    test('of no replica more than it has, of all no more than the cap', async () => {
      await see('a:2 b:2', { cap: 3 })
      const [first] = await admitted(5)
      expect(it.grants).toHaveLength(3)
      expect(await counts()).toMatchObject({ concurrency: 3, queued: 2 })
      await begin(first!)
      await finish(first!)
      expect(it.grants).toHaveLength(4)
      await see('a:2 b:2')
      expect(it.grants).toHaveLength(5)
      expect(await counts()).toMatchObject({ concurrency: 4, queued: 0 })
    })

    test('in the very call that tells of the first replica', async () => {
      await see('')
      const [job] = await admitted(2)
      expect(await it.book.get(job!.id)).toMatchObject({ state: 'queued', position: 1 })
      expect(await counts()).toMatchObject({ concurrency: 0, running: 0, queued: 2 })
      await see('a')
      expect(grantOf(job!)).toMatchObject({ replica: 'a', grant: 1 })
      expect(await counts()).toMatchObject({ concurrency: 1, running: 1, queued: 1 })
    })

    test('held by a job that ended, until its worker says that the runtime let go', async () => {
      await see('a b')
      const [first] = await admitted(3)
      await begin(first!)
      await it.book.event({ id: first!.id, owner: 'alice', event: 'cancel' })
      expect(await counts()).toMatchObject({ running: 1, releasing: 1, queued: 1 })
      const { replica } = grantOf(first!)
      it.forget()
      await it.book.finish({ id: first!.id, target: 'gpu', run: 1, event: 'release' })
      expect(replicas()).toBe(replica)
    })

    test('of a job that ended before a worker began it, as soon as one would', async () => {
      await see('a')
      const [first] = await admitted(2)
      await it.book.event({ id: first!.id, owner: 'alice', event: 'cancel' })
      // A delivery of another grant has nothing to say.
      expect(await start(first!.id, { grant: 0 })).toMatchObject({ verdict: 'ended' })
      expect(it.grants).toHaveLength(1)
      expect(await begin(first!)).toMatchObject({ verdict: 'ended' })
      expect(it.grants).toHaveLength(2)
    })
  })

  describe('a replica', () => {
    test('while the lease of any server that sees it lasts', async () => {
      await see('a b')
      await see('b c', { server: 'two', leaseMs: 1 })
      expect(await counts()).toMatchObject({ concurrency: 3 })
      await eventually(async () => {
        await sweep()
        expect(await counts()).toMatchObject({ concurrency: 2 })
      })
      await see('a b', { leaving: true })
      expect(await counts()).toMatchObject({ concurrency: 0 })
      expect(await it.client.keys(it.key('target:gpu:replica:*'))).toEqual([])
    })

    test('whose servers were silent while nobody could be heard: it is kept', async () => {
      await see('a', { leaseMs: 1 })
      await new Promise((resolve) => setTimeout(resolve, 5))
      await sweep(false)
      expect(await counts()).toMatchObject({ concurrency: 1 })
    })

    test('that left no more, and counts what it runs when it is back', async () => {
      await see('a:2 b:2')
      const jobs = await admitted(4)
      for (const job of jobs) await begin(job)
      await see('b:2')
      expect(await counts()).toMatchObject({ concurrency: 2, running: 4 })
      await admitted(2)
      expect(it.grants).toHaveLength(4)
      const onA = jobs.filter((job) => grantOf(job).replica === 'a')
      it.forget()
      await finish(onA[0]!)
      // The other one still runs there.
      expect(it.grants).toHaveLength(0)
      await see('a:2 b:2')
      expect(replicas()).toBe('a')
      await finish(onA[1]!)
      expect(replicas()).toBe('a a')
    })

    test('with fewer slots than it runs nothing until enough ended', async () => {
      await see('a:3')
      const jobs = await admitted(4)
      for (const job of jobs.slice(0, 3)) await begin(job)
      await see('a:1')
      it.forget()
      await finish(jobs[0]!)
      await finish(jobs[1]!)
      expect(replicas()).toBe('')
      await finish(jobs[2]!)
      expect(replicas()).toBe('a')
    })

    test('that a server ejected, when that server has gone', async () => {
      await see('a')
      await see('', { server: 'two', ejected: [{ id: 'a', forMs: NEVER_MS }] })
      expect(await counts()).toMatchObject({ concurrency: 0 })
      await see('', { server: 'two', leaving: true })
      expect(await counts()).toMatchObject({ concurrency: 1 })
    })

    test('that a server ejected only when its time is over, or that server sees it again', async () => {
      const ejected = (forMs: number) => ({ ejected: [{ id: 'a', forMs }] })
      await see('a')
      await see('a', { server: 'two' })
      await see('', ejected(NEVER_MS))
      await admitted(1)
      expect(await counts()).toMatchObject({ concurrency: 0, queued: 1 })
      await see('a', { server: 'three' })
      expect(it.grants).toHaveLength(0)
      await see('a')
      expect(replicas()).toBe('a')
      await see('', ejected(1))
      await eventually(async () => {
        await sweep()
        expect(await counts()).toMatchObject({ concurrency: 1 })
      })
    })
  })

  describe('that its replica did not draw', () => {
    test('another one, before everything that waits', async () => {
      await see('a b')
      const jobs = await admitted(4)
      for (const job of jobs.slice(0, 2)) await begin(job)
      const [first, second] = jobs as [Job, Job]
      const on = grantOf(first).replica
      it.forget()
      expect(await again(first, 1, on)).toEqual(expect.objectContaining({ verdict: 'again' }))
      // Its slot went to the next one in the queue: it may not have it, while there is another.
      expect(it.grants).toMatchObject([{ id: jobs[2]!.id, replica: on }])
      expect(await it.book.get(first.id)).toMatchObject({ state: 'running' })
      await finish(second)
      expect(it.grants[1]).toMatchObject({ id: first.id })
      expect(it.grants[1]!.replica).not.toBe(on)
      expect(await begin(first)).toMatchObject({ verdict: 'go', run: 2, replica: it.grants[1]!.replica })
      expect(await finish(first, 2)).toMatchObject({ verdict: 'told' })
      expect(await it.book.get(first.id)).toMatchObject({ state: 'succeeded' })
    })

    test('in the order in which they failed', async () => {
      await see('a b c')
      const jobs = await admitted(3)
      for (const job of jobs) await begin(job)
      const ids = jobs.map(({ id }) => id)
      await see('')
      for (const job of jobs) await again(job, 1, grantOf(job).replica)
      it.forget()
      await see('new:9')
      expect(it.grants.map(({ id }) => id)).toEqual(ids)
      expect(replicas()).toBe('new new new')
    })

    test('the same one where there is no other', async () => {
      await see('a')
      const [job] = await admitted(1)
      await begin(job!)
      it.forget()
      await again(job!, 1, 'a')
      expect(it.grants).toMatchObject([{ id: job!.id, replica: 'a' }])
    })

    test('nothing where it runs on: who comes too late, or twice, changes nothing', async () => {
      await see('a b')
      const [job] = await admitted(1)
      await begin(job!)
      await again(job!, 1, 'a')
      expect(await again(job!, 1, 'a')).toMatchObject({ verdict: 'lost' })
      expect(await it.book.beat({ runs: [[job!.id, 1]], lockMs: NEVER_MS })).toEqual([job!.id])
      expect(await finish(job!, 1)).toMatchObject({ verdict: 'lost' })
      // A delivery of the grant before, as by a server that died, starts nothing.
      expect(await start(job!.id, { grant: 1, attempt: 'late' })).toMatchObject({ verdict: 'ended' })
      expect(await begin(job!)).toMatchObject({ verdict: 'go', run: 2 })
      expect(it.grants).toHaveLength(2)
      await finish(job!, 2)
      expect(await it.client.hgetall(it.key('target:gpu:held'))).toEqual({})
    })

    test('no more than so many times: then it failed with the last reason', async () => {
      await see('a b')
      const [job] = await admitted(1)
      await begin(job!)
      await again(job!, 1, 'a', 1)
      await begin(job!)
      expect(await again(job!, 2, 'b', 1)).toMatchObject({ verdict: 'told' })
      expect(await it.book.get(job!.id)).toMatchObject({ state: 'failed', error: { code: 'runtime_failed' } })
      expect(await counts()).toMatchObject({ running: 0, releasing: 0 })
      expect(await it.client.hgetall(it.key('target:gpu:held'))).toEqual({})
    })

    test.each(['cancel', 'expire'] as const)(
      'nothing after %s while it waits for another one',
      async (event) => {
        await see('a')
        const job = await admit({ deadlineMs: event === 'expire' ? 400 : NEVER_MS })
        await begin(job)
        await see('')
        await again(job, 1, 'a')
        if (event === 'cancel') await it.book.event({ id: job.id, owner: 'alice', event })
        const ended = event === 'cancel' ? 'cancelled' : 'expired'
        await eventually(async () => {
          if (event === 'expire') await sweep()
          expect(await it.book.get(job.id)).toMatchObject({ state: ended })
        })
        // Nobody has anything to let go of.
        expect(await counts()).toMatchObject({ running: 0, releasing: 0 })
        it.forget()
        await see('a')
        expect(it.grants).toEqual([])
        await admitted(1)
        expect(replicas()).toBe('a')
      },
    )

    test('nothing where its hash is gone', async () => {
      await see('a')
      const [job] = await admitted(2)
      await begin(job!)
      await see('')
      await again(job!, 1, 'a')
      await it.client.del(it.key(`job:${job!.id}`))
      it.forget()
      await see('b')
      expect(it.grants).toHaveLength(1)
      expect(await counts()).toMatchObject({ running: 1, queued: 0 })
    })
  })

  describe('of a dead server', () => {
    test('the same replica, whose slot is taken once', async () => {
      await see('a')
      const [job] = await admitted(2)
      await begin(job!, { lockMs: 0 })
      expect(await begin(job!)).toMatchObject({ verdict: 'go', run: 2, replica: 'a' })
      expect(await it.client.hgetall(it.key('target:gpu:held'))).toEqual({ [job!.id]: 'a' })
      expect(await it.client.hget(it.key('target:gpu:replica:a'), 'busy')).toBe('1')
    })

    test('another one where that left', async () => {
      await see('a b')
      const [job] = await admitted(1)
      const on = grantOf(job!).replica
      await begin(job!, { lockMs: 0 })
      const other = on === 'a' ? 'b' : 'a'
      await see(other)
      expect(await begin(job!)).toMatchObject({ verdict: 'go', run: 2, replica: other })
      expect(await it.client.exists(it.key(`target:gpu:replica:${on}`))).toBe(0)
    })

    test('the next one that there is, where none is free', async () => {
      await see('a')
      const [job] = await admitted(1)
      await begin(job!, { lockMs: 0 })
      await see('')
      expect(await begin(job!)).toMatchObject({ verdict: 'ended' })
      expect(await it.book.get(job!.id)).toMatchObject({ state: 'running' })
      await see('b')
      expect(await begin(job!)).toMatchObject({ verdict: 'go', run: 2, replica: 'b' })
    })
  })

  test('at the same cost with a thousand replicas as with ten', { timeout: 120_000 }, async () => {
    const names = (size: number) => Array.from({ length: size }, (_, index) => `r${index}`).join(' ')
    const costs = async (size: number) => {
      await it.client.flushall()
      await learn(1)
      await see(names(size), { server: 'one' })
      await see(names(size), { server: 'two' })
      const jobs = await many(Math.ceil(size / 2), () => admit())
      await it.client.del(it.key('undelivered'))
      const job = jobs.at(-1)!
      return {
        'a heartbeat': await cost(() => see(names(size))),
        'one more': await cost(() => see(`${names(size)} new`)),
        'one less': await cost(() => see(names(size))),
        eject: await cost(() => see(names(size), { ejected: [{ id: 'r7', forMs: NEVER_MS }] })),
        admit: await cost(() => admit()),
        start: await cost(() => begin(job)),
        again: await cost(() => again(job, 1, grantOf(job).replica)),
        restart: await cost(() => begin(job)),
        'finish and grant': await cost(() => finish(job, 2)),
        sweep: await cost(() => sweep()),
      }
    }
    const [few, more] = [await costs(10), await costs(1000)]
    for (const [step, count] of Object.entries(few))
      expect(more[step as keyof typeof few], step).toBeLessThan(count * 1.2 + 10)
  })
})
