/** Plays the servers for the book of jobs in Valkey: submits, runs and ends jobs of one target by its commands alone. */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { fixedSecret } from '../../src/auth/secret.ts'
import { createBook, type Submission } from '../../src/jobs/valkey/book/book.ts'
import { connectValkey } from '../../src/valkey/connection.ts'

const TARGET = 'bench'
/** Nothing ends by itself; milliseconds. */
const LONG_MS = 1e9
/** Commands sent at once. */
const AT_ONCE = 50

export type Driver = Awaited<ReturnType<typeof createDriver>>

/** A book with one target and no jobs. Callers take turns. */
export async function createDriver(options: {
  readonly url: string
  readonly concurrency: number
  readonly callers: number
}) {
  const { url, concurrency, callers } = options
  const log = pino({ level: 'silent' })
  // A stand is filled faster than Valkey works; that must not look like an outage.
  const valkey = connectValkey({ url: fixedSecret(url), what: 'bench', commandTimeoutMs: 60_000, log })
  await valkey.connected
  /** Callers by job. */
  const queued = new Map<string, string>()
  const granted: string[] = []
  const runs = new Map<string, number>()
  const book = createBook({
    valkey,
    prefix: randomUUID(),
    onEffects(effects) {
      for (const { id } of effects.granted) {
        queued.delete(id)
        granted.push(id)
      }
    },
  })
  let asked = 0
  const replicas = [{ id: 'runtime', slots: concurrency }]
  await book.see({ target: TARGET, server: 'bench', replicas, leaseMs: LONG_MS })

  const nextCaller = () => `caller ${asked++ % callers}`
  /** Neither the first nor the last one. */
  const someQueued = () => {
    const nth = 1 + ((asked * 7919) % (queued.size - 1))
    asked += 1
    let index = 0
    for (const entry of queued) if (index++ === nth) return entry
    throw new Error('nothing is queued')
  }
  const someRun = () => [...runs][asked++ % runs.size] as [string, number]

  return {
    /** Acts `times` times, some at once. */
    async atOnce(times: number, act: () => Promise<unknown>): Promise<void> {
      for (let done = 0; done < times; done += AT_ONCE)
        await Promise.all(Array.from({ length: Math.min(AT_ONCE, times - done) }, act))
    },

    async submit() {
      const submission = { ...USUAL, ...freshIds(), owner: nextCaller() }
      queued.set(submission.id, submission.owner)
      const { verdict } = await book.submit(submission)
      if (verdict !== 'admitted') throw new Error(`a submission was ${verdict}`)
    },
    /** A submission that finds its queue full. */
    async refused() {
      const submission = { ...USUAL, ...freshIds(), owner: nextCaller(), queueLimit: 0 }
      const { verdict } = await book.submit(submission)
      if (verdict !== 'refused') throw new Error(`a submission was ${verdict}`)
    },
    get: () => book.get(someQueued()[0]),
    /** @param many how many queued jobs are read in one script. */
    snapshots: (many: number) => book.snapshots({ ids: [...queued.keys()].slice(0, many) }),
    async cancel() {
      const [id, owner] = someQueued()
      queued.delete(id)
      await book.event({ id, owner, event: 'cancel' })
    },
    /** Starts a job that got a slot. */
    async start() {
      const id = granted.shift() as string
      const started = await book.start({
        id,
        target: TARGET,
        grant: 1,
        attempt: randomUUID(),
        lockMs: LONG_MS,
        maxReruns: 3,
        exhausted: '{}',
      })
      if (started.verdict !== 'go') throw new Error(`a job that got a slot is ${started.verdict}`)
      runs.set(id, started.run)
    },
    async progress() {
      const [id, run] = someRun()
      await book.progress({ steps: [[id, run, '{"step":1,"steps":2}']] })
    },
    async finish() {
      const [id, run] = someRun()
      runs.delete(id)
      await book.finish({
        id,
        target: TARGET,
        run,
        event: 'finish',
        outcome: '{}',
        sample: '{}',
        model: { fixedMs: 0, unitMs: 1000, reach: 1000 },
      })
    },
    close: () => valkey.close(),
  }
}

const freshIds = () => ({
  id: randomUUID(),
  imageId: randomUUID(),
  requestHash: randomUUID(),
  waiter: randomUUID(),
})

const USUAL = {
  anonymous: false,
  target: TARGET,
  request: JSON.stringify({
    prompt: 'a red fox in the snow, '.repeat(8),
    seed: 1,
    width: 1024,
    height: 1024,
  }),
  seeded: false,
  leaseMs: LONG_MS,
  deadlineMs: LONG_MS,
  graceMs: 0,
  ttlMs: LONG_MS,
  cost: 1,
  ownMs: 1000,
  queueLimit: 1_000_000,
  queueLimitOfCaller: 1_000_000,
  measured: true,
  stale: false,
  closed: false,
} satisfies Partial<Submission>
