/** The book on a Valkey of its own, driven without servers, with a meter in its scripts. */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import type { WorkModel } from '../../src/jobs/figures.ts'
import type { Job } from '../../src/jobs/job.ts'
import {
  type Book,
  type Counts,
  createBook,
  type Granted,
  type Submission,
} from '../../src/jobs/valkey/book/book.ts'
import { connectValkey, type Valkey } from '../../src/valkey/connection.ts'
import { startValkey, type ValkeyServer } from './valkey.ts'

/** Arguments and elements of replies, of all commands of a script, are added up in the hash `meter`. */
const METER = `
  local plain, script = redis, redis.call('INCR', 'scripts')
  local redis = { sha1hex = plain.sha1hex, call = function(...)
    local reply = plain.call(...)
    plain.call('HINCRBY', 'meter', script, select('#', ...) + (type(reply) == 'table' and #reply or 1))
    return reply
  end }
`
/** Long enough never to pass while a test runs, in milliseconds. */
export const NEVER_MS = 600_000
/** Submissions that are on their way at the same time. */
const AT_ONCE = 100

export type MeteredBook = ReturnType<typeof useMeteredBook>

/** Opens an empty book before each test of the suite that calls it. Its one target is called gpu. */
export function useMeteredBook() {
  let server: ValkeyServer
  let valkey: Valkey
  let book: Book
  let granted: string[][]
  let grants: Granted[]
  let counted: ReadonlyMap<string, Counts>
  let ended: string[]

  beforeAll(async () => {
    server = await startValkey({ appendonly: 'no' })
  })
  afterAll(() => server?.stop())
  beforeEach(async () => {
    await server.ask((client) => client.flushall())
    granted = []
    grants = []
    ended = []
    const connection = connectValkey({
      url: fixedSecret(server.url),
      what: 'job store',
      log: pino({ level: 'silent' }),
    })
    valkey = {
      ...connection,
      define: (name, { lua, ...rest }) => connection.define(name, { ...rest, lua: METER + lua }),
    }
    book = createBook({
      valkey,
      prefix: randomUUID(),
      onEffects(effects) {
        granted.push(effects.granted.map(({ id }) => id))
        grants.push(...effects.granted)
        counted = effects.targets
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
    leaseMs: NEVER_MS,
    deadlineMs: 1e9,
    graceMs: NEVER_MS,
    ttlMs: NEVER_MS,
    cost: 1,
    queueLimit: 1_000_000,
    queueLimitOfCaller: 1_000_000,
    measured: true,
    stale: false,
    model: { fixedMs: 0, unitMs: given.ownMs ?? 1000, reach: 1e6 },
    closed: false,
    ...given,
  })
  /** Submits; fails where the job is not admitted. */
  async function admit(given: Partial<Submission> = {}): Promise<Job> {
    const reply = await book.submit(asked(given))
    if (reply.verdict !== 'admitted') throw new Error(`Not admitted but ${reply.verdict}.`)
    return reply.job
  }
  /** A plain target: one replica with so many slots. */
  const open = (slots: number) =>
    book.see({ target: 'gpu', server: 'one', replicas: [{ id: 'runtime', slots }], leaseMs: NEVER_MS })
  const start = (id: string, more: { grant?: number; attempt?: string; lockMs?: number } = {}) =>
    book.start({
      ...{ id, target: 'gpu', grant: 1, attempt: id, lockMs: NEVER_MS, maxReruns: 1, exhausted: '' },
      ...more,
    })
  const finish = (id: string, more: { sample?: string; model?: WorkModel } = {}) =>
    book.finish({ id, target: 'gpu', run: 1, event: 'finish', outcome: '{}', ...more })
  /** A target with slots that knows how long a unit takes: a second. */
  async function learn(concurrency: number): Promise<void> {
    await open(concurrency)
    const { id } = await admit()
    await start(id)
    await finish(id, { sample: '{}', model: { fixedMs: 0, unitMs: 1000, reach: 1e6 } })
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
    for (let from = 0; from < count; from += AT_ONCE)
      done.push(
        ...(await Promise.all(
          Array.from({ length: Math.min(AT_ONCE, count - from) }, (_, index) => act(from + index)),
        )),
      )
    return done
  }

  return {
    get book() {
      return book
    },
    get client() {
      return valkey.client
    },
    /** Jobs that each script gave a slot. */
    get granted() {
      return granted
    },
    /** All grants, in their order. */
    get grants() {
      return grants
    },
    /** What a target does now. */
    async counts(target: string): Promise<Counts> {
      await book.target({ target })
      return counted.get(target) as Counts
    },
    /** Jobs that ended. */
    get ended() {
      return ended
    },
    /** Forgets the effects so far. */
    forget(): void {
      granted = []
      grants = []
      ended = []
    },
    /** A key of the book. */
    key: (name: string) => book.channel.replace(/events$/, name),
    ...{ asked, admit, open, start, finish, learn, published, measure, cost, many },
  }
}
