/**
 * What the book's scripts cost as the queue, the concurrency and the number of callers grow. Counted, not timed: a meter
 * inside the script counts what every command takes and returns.
 */
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import type { Job } from '../../src/jobs/job.ts'
import { createFairQueue } from '../../src/jobs/memory/fair-queue.ts'
import { type Book, createBook, type Effects, type Submission } from '../../src/jobs/valkey/book/book.ts'
import { connectValkey, type Valkey } from '../../src/valkey/connection.ts'
import { eventually } from '../support/eventually.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

/** Arguments and elements of replies, of all commands of a script, are added up in the hash `meter`. */
const METER = `
  local plain, script = redis, redis.call('INCR', 'scripts')
  local redis = { sha1hex = plain.sha1hex, call = function(...)
    local reply = plain.call(...)
    plain.call('HINCRBY', 'meter', script, select('#', ...) + (type(reply) == 'table' and #reply or 1))
    return reply
  end }
`
const NEVER_MS = 600_000
const LEASE_MS = 60_000

describe.skipIf(findValkeyServer() === undefined)('the book', () => {
  let server: ValkeyServer
  let valkey: Valkey
  let book: Book
  let granted: string[][]
  let ended: string[]

  beforeAll(async () => {
    server = await startValkey({ appendonly: 'no' })
  })
  afterAll(() => server?.stop())
  beforeEach(async () => {
    granted = []
    ended = []
    valkey = connectValkey({
      url: fixedSecret(server.url),
      what: 'job store',
      log: pino({ level: 'silent' }),
    })
    const { client } = valkey
    const define = client.defineCommand.bind(client)
    client.defineCommand = (name, { lua, ...rest }) => define(name, { ...rest, lua: METER + lua })
    book = createBook({
      valkey,
      prefix: randomUUID(),
      onEffects(effects: Effects) {
        granted.push(effects.granted.map(({ id }) => id))
        ended.push(...effects.ended.map(({ id }) => id))
      },
    })
    await valkey.connected
  })
  afterEach(() => valkey.close())

  /** A submission of 1 unit, which takes a second. */
  const asked = (given: Partial<Submission> = {}): Submission => ({
    id: randomUUID(),
    imageId: randomUUID(),
    owner: 'alice',
    anonymous: false,
    target: 'gpu',
    request: '{}',
    requestHash: randomUUID(),
    seeded: false,
    waiter: randomUUID(),
    leaseMs: LEASE_MS,
    deadlineMs: 1e9,
    graceMs: NEVER_MS,
    ttlMs: NEVER_MS,
    cost: 1,
    concurrency: 1,
    queueLimit: 1_000_000,
    queueLimitOfCaller: 1_000_000,
    stale: false,
    closed: false,
    ...given,
  })
  /** Submits; fails where the job is not admitted. */
  async function admit(given: Partial<Submission> = {}): Promise<Job> {
    const reply = await book.submit(asked(given))
    if (reply.verdict !== 'admitted') throw new Error(`Not admitted but ${reply.verdict}.`)
    return reply.job
  }
  const open = (concurrency: number) => book.target({ target: 'gpu', concurrency })
  const start = (id: string) =>
    book.start({ id, target: 'gpu', attempt: id, lockMs: NEVER_MS, maxReruns: 1, exhausted: '' })
  const finish = (id: string, more: { sample?: string; unitMs?: number } = {}) =>
    book.finish({ id, target: 'gpu', run: 1, event: 'finish', outcome: '{}', ...more })
  /** A target with slots that knows how long a unit takes: a second. */
  async function learn(concurrency: number): Promise<void> {
    await open(concurrency)
    const { id } = await admit()
    await start(id)
    await finish(id, { sample: '{}', unitMs: 1000 })
  }
  /** Messages that `act` publishes. */
  async function published(act: () => Promise<unknown>): Promise<string[]> {
    const messages: string[] = []
    await server.ask(async (client) => {
      client.on('message', (_channel, message) => void messages.push(message))
      await client.subscribe(book.channel)
      await act()
      // Its own message comes after all the others.
      const last = new Promise((resolve) =>
        client.on('message', (_, message) => message === 'last' && resolve(0)),
      )
      await valkey.client.publish(book.channel, 'last')
      await last
    })
    return messages.slice(0, -1)
  }

  test('tells of many jobs at once what it tells of each', async () => {
    await learn(2)
    const jobs: Job[] = []
    for (let index = 0; index < 250; index += 1)
      jobs.push(await admit({ owner: `caller ${index % 7}`, cost: 1 + (index % 3) / 4, ownMs: 1000 }))
    const ids = jobs.map(({ id }) => id)
    const all = await book.snapshots({ ids: [...ids, 'unknown'] })
    expect([...all.keys()]).toEqual(ids)
    for (const id of ids) {
      const { expectedAt, ...job } = (await book.get(id)) as Job
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
      await book.event({ id, owner: 'alice', event: 'detach' })
      await book.leave({ id, waiter: waiters[at + 1]! })
    }
    const step = '{"step":1,"steps":2}'
    const report = (...ids: string[]) =>
      book.progress({ steps: [...ids, 'unknown'].map((id) => [id, 1, step] as const) })

    expect(await published(() => report(watched, left))).toEqual([])
    await book.get(watched, { watch: true })
    const messages = await published(async () => {
      expect(await report(waited, watched, left)).toEqual(['unknown'])
    })
    expect(messages.map((message) => book.readChanges(message).steps)).toEqual([
      [
        [waited, step],
        [watched, step],
      ],
    ])
    // Whoever asks later is told all the same.
    expect((await book.get(left))?.progress).toEqual({ step: 1, steps: 2 })
  })

  /** What the meter counts while `act` runs: all scripts together, and the longest. */
  async function measure(act: () => Promise<unknown>): Promise<{ cost: number; longest: number }> {
    await server.ask((client) => client.del('meter'))
    await act()
    const scripts = (await server.ask((client) => client.hvals('meter'))).map(Number)
    return { cost: scripts.reduce((sum, one) => sum + one, 0), longest: Math.max(...scripts) }
  }
  const cost = async (act: () => Promise<unknown>) => (await measure(act)).cost
  async function many<T>(count: number, act: (index: number) => Promise<T>): Promise<T[]> {
    const done: T[] = []
    for (let from = 0; from < count; from += 100)
      done.push(
        ...(await Promise.all(
          Array.from({ length: Math.min(100, count - from) }, (_, index) => act(from + index)),
        )),
      )
    return done
  }
  /** An admission that is refused: one that only looks. */
  const look = async (given: Partial<Submission> = {}) =>
    expect(await book.submit(asked({ ownMs: 1000, queueLimit: 1, ...given }))).toMatchObject({
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
      return { running, queued, next: () => ({ ownMs: 1000, concurrency: size }) }
    },
    async 'jobs that run and should have been finished'(size) {
      await learn(size)
      const running = await many(size, () => admit({ ownMs: 1 }))
      const queued = await many(waiting, () => admit({ ownMs: 1000 }))
      // The first look after their time takes them out of the sum.
      while ((await book.get(running.at(-1)!.id))?.state !== 'running') await look()
      await look()
      return { running, queued, next: () => ({ ownMs: 1000, concurrency: size }) }
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
        valkey.client.flushall()
        const { running, queued, next } = await build(size)
        const last = queued.at(-1)!
        return {
          look: await cost(() => look(next(0))),
          admit: await cost(() => admit(next(1))),
          'get a queued job': await cost(() => book.get(last.id)),
          'get many queued jobs': await cost(() =>
            book.snapshots({ ids: queued.slice(-waiting + 1).map(({ id }) => id) }),
          ),
          cancel: await cost(() => book.event({ id: last.id, owner: last.owner, event: 'cancel' })),
          start: await cost(() => start(running[0]!.id)),
          'finish and grant': await cost(() => finish(running[0]!.id)),
          'sweep with nothing to do': await cost(() => book.sweep({ leases: true, targets: ['gpu'] })),
        }
      }
      const [few, more] = [await costs(120), await costs(1200)]
      // One command more or less is no growth.
      for (const [step, count] of Object.entries(few))
        expect(more[step as keyof typeof few], step).toBeLessThan(count * 1.5 + 10)
    })
  })

  describe.each(['one size', 'two sizes'])('of jobs of %s that end together', (sizes) => {
    const costOf = (index: number) => (sizes === 'one size' ? 1 : 1 + (index % 2))
    /** A slot that is taken, so many jobs whose time is up, and one that can run. */
    async function build(size: number, over: Partial<Submission> = { deadlineMs: 1 }) {
      valkey.client.flushall()
      await learn(1)
      const first = await admit()
      await start(first.id)
      const expired = await many(size, (index) => admit({ cost: costOf(index), ...over }))
      const good = await admit({ owner: 'bob' })
      granted = []
      ended = []
      return { first, expired, good }
    }

    test('one script drops a part, and the others follow until the slot is given away', async () => {
      const longest = async (size: number) => {
        const { first, expired, good } = await build(size)
        // Some have lost their hash, as by a Valkey that evicts.
        const lost = expired.slice(0, size / 3)
        await valkey.client.del(lost.map(({ id }) => `${book.channel.replace(/events$/, '')}job:${id}`))
        const figures = await measure(async () => {
          await finish(first.id)
          await eventually(async () => expect(granted.flat()).toEqual([good.id]))
        })
        expect(new Set(ended)).toEqual(new Set([first, ...expired.slice(size / 3)].map(({ id }) => id)))
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
      const sweep = () => book.sweep({ leases: true, targets: ['gpu'] })
      const one = await cost(sweep)
      expect(ended).toHaveLength(100)
      // Wherever they stand in their line.
      expect(one).toBeLessThan(100 * 200)
      for (let round = 0; round < 5; round += 1) await sweep()
      expect(new Set(ended)).toEqual(new Set(expired.map(({ id }) => id)))
    })
  })

  describe('more slots', () => {
    test('are given away by several scripts, one after the other', async () => {
      await open(1)
      const jobs = await many(500, () => admit())
      granted = []
      await open(500)
      await eventually(async () => expect(granted.flat()).toHaveLength(499))
      expect(Math.max(...granted.map((ids) => ids.length))).toBe(100)
      expect(new Set(granted.flat())).toEqual(new Set(jobs.slice(1).map(({ id }) => id)))
    })

    test('are given away by sweeps where the server died that had to go on', async () => {
      await open(1)
      await many(150, () => admit())
      granted = []
      const { client } = valkey as unknown as { client: { book(...args: string[]): Promise<unknown> } }
      const asked = JSON.stringify({ target: 'gpu', concurrency: 150 })
      await client.book(book.channel.replace(/events$/, ''), 'target', asked)
      await book.sweep({ leases: false, targets: ['gpu'] })
      expect(granted.flat()).toHaveLength(49)
    })
  })

  test('renews many waiters and runs in slices', async () => {
    await open(1000)
    const leases = Array.from({ length: 1000 }, () => randomUUID())
    const jobs = await many(1000, (index) => admit({ waiter: leases[index]! }))
    await eventually(async () => expect(granted.flat()).toHaveLength(1000))
    await many(1000, (index) => start(jobs[index]!.id))
    const waiters = jobs.map(({ id }, index) => [id, leases[index]!] as const)
    const runs = jobs.map(({ id }) => [id, 1] as const)
    for (const job of [jobs[0]!, jobs[999]!]) await finish(job.id)
    const over = [jobs[0]!.id, jobs[999]!.id]
    const longest = async (size: number) => {
      const renewed = await measure(async () => {
        const list = await book.renew({ waiters: waiters.slice(0, size), leaseMs: LEASE_MS })
        if (size === 1000) expect(list).toEqual(over)
      })
      const beaten = await measure(async () => {
        const list = await book.beat({ runs: runs.slice(0, size), lockMs: NEVER_MS })
        if (size === 1000) expect(list).toEqual(over)
      })
      return [renewed.longest, beaten.longest]
    }
    const [few, all] = [await longest(200), await longest(1000)]
    for (const [index, count] of few.entries()) expect(all[index]).toBeLessThan(count * 1.1)
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
      valkey.client.flushall()
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
          await book.event({ id, owner: owners.get(id) as string, event: 'cancel' })
          model.remove(id)
        } else {
          const { id } = await admit({ owner: one.caller, cost: one.steps / 1024, ownMs: 0.1 })
          owners.set(id, one.caller)
          model.push(id, { caller: one.caller, cost: one.steps / 1024 })
        }
        const ids = model.inOrder()
        const jobs = await book.snapshots({ ids })
        expect([...jobs.values()].map(({ position }) => position)).toEqual(ids.map((_, index) => index + 1))
        if (ids.length === 0) continue
        for (const owner of ['alice', 'bob', 'carol', 'dave'])
          expect(await book.submit(asked({ owner, ownMs: 1024, queueLimit: 1 }))).toMatchObject({
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
