/**
 * What the book's scripts cost as the queue, the concurrency and the number of callers grow. Counted, not timed: a meter
 * inside the script counts what every command takes and returns.
 */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import type { Job } from '../../src/jobs/job.ts'
import { type Book, createBook, type Effects, type Submission } from '../../src/jobs/valkey/book/book.ts'
import { connectValkey, type Valkey } from '../../src/valkey/connection.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

/** Arguments and elements of replies, of all commands of all scripts, are added up in the key `meter`. */
const METER = `
  local plain = redis
  local redis = { sha1hex = plain.sha1hex, call = function(...)
    local reply = plain.call(...)
    plain.call('INCRBY', 'meter', select('#', ...) + (type(reply) == 'table' and #reply or 1))
    return reply
  end }
`
const NEVER_MS = 600_000
const LEASE_MS = 60_000

describe.skipIf(findValkeyServer() === undefined)('the book', () => {
  let server: ValkeyServer
  let valkey: Valkey
  let book: Book
  let effects: { granted: string[]; ended: string[] }

  beforeAll(async () => {
    server = await startValkey({ appendonly: 'no' })
  })
  afterAll(() => server?.stop())
  beforeEach(async () => {
    effects = { granted: [], ended: [] }
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
      onEffects({ granted, ended }: Effects) {
        effects.granted.push(...granted.map(({ id }) => id))
        effects.ended.push(...ended.map(({ id }) => id))
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
    deadlineMs: NEVER_MS,
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
})
