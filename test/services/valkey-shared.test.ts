/** Two job backends on one Valkey, as two servers have them, in one process: what they do to each other's jobs. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Logger, pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import type { ImageStore } from '../../src/images/image.ts'
import { createMemoryImages } from '../../src/images/memory.ts'
import type { Job, Jobs, Waiter } from '../../src/jobs/job.ts'
import { createValkeyJobs } from '../../src/jobs/valkey/jobs.ts'
import { createPlainPool } from '../../src/runtimes/pool/pool.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { createManualRuntime } from '../fakes/manual-runtime.ts'
import { eventually, within } from '../support/eventually.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

const ALICE = { id: 'alice' }
const GRACE_MS = 600
/** Longer than this process stands still: no server loses a run or a waiter that way. */
const LOCK_MS = 30_000
/** Races that run at the same time: few enough for every command to be answered long before it counts as lost. */
const AT_ONCE = 100

/** Runs `race` with 0 to `count` - 1, so many of them at a time; the outcomes in that order. */
async function races<T>(count: number, race: (index: number) => Promise<T>): Promise<T[]> {
  const outcomes: T[] = []
  let next = 0
  const lane = async () => {
    while (next < count) {
      const index = next++
      outcomes[index] = await race(index)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane))
  return outcomes
}

describe.skipIf(findValkeyServer() === undefined)('two servers on one Valkey', () => {
  let valkey: ValkeyServer
  let runtime: ReturnType<typeof createManualRuntime>
  let images: ImageStore
  let prefix: string
  let a: Jobs
  let b: Jobs
  let opened: Jobs[]

  const open = async (options: { queue?: number; log?: Logger; url?: string; lockMs?: number } = {}) => {
    const { queue = 2000, log = pino({ level: 'silent' }), url = valkey.url, lockMs = LOCK_MS } = options
    const jobs = await createValkeyJobs({
      targets: [
        {
          ...{ name: 'gpu', kind: 'simulated', concurrency: 2, queue, queuePerCaller: queue },
          ...{
            defaults: { width: 64, height: 64, num_inference_steps: 10 },
            pool: createPlainPool(runtime, { slots: 2 }),
          },
        },
      ],
      images,
      deadlineMs: 120_000,
      orphanGraceMs: GRACE_MS,
      ttlSeconds: 600,
      log,
      metrics: createMetrics(),
      url: fixedSecret(url),
      lockMs,
      maxReruns: 3,
      prefix,
    })
    opened.push(jobs)
    return jobs
  }
  const end = async (waiter: Waiter): Promise<Job> => {
    let last = waiter.job
    for await (const job of waiter.watch()) last = job
    return last
  }

  beforeAll(async () => {
    valkey = await startValkey()
  })
  afterAll(() => valkey?.stop())
  beforeEach(async () => {
    runtime = createManualRuntime()
    // Both have the pictures, as with any store that servers share.
    images = createMemoryImages({ maxBytes: 2 ** 24 })
    prefix = randomUUID()
    opened = []
    a = await open()
    b = await open()
  })
  afterEach(async () => {
    await Promise.all(opened.map((jobs) => jobs.close()))
  })

  // Repeated: a step that comes while the job is being read is a race that one run seldom meets.
  test('either of them answers for any job, from its steps to its end', { repeats: 10 }, async () => {
    const { job } = await a.submit({ prompt: 'a fox' }, ALICE)
    const seen: Job[] = []
    const watching = (async () => {
      for await (const now of b.watch(job.id, ALICE)) seen.push(now)
    })()
    await eventually(() => expect(runtime.runs).toHaveLength(1))
    runtime.runs[0]!.step(3, 10)
    await eventually(() => expect(seen.at(-1)?.progress).toEqual({ step: 3, steps: 10 }))
    runtime.runs[0]!.finish()
    await watching
    expect(seen.at(-1)).toEqual(await a.get(job.id, ALICE))
    expect(seen.at(-1)).toMatchObject({ state: 'succeeded', image: { prompt: 'a fox' } })
    await eventually(() => expect(b.queue()).toEqual(a.queue()))
  })

  test('the same key at both at once is one job', async () => {
    const waiters = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        [a, b][index % 2]!.submit({ prompt: 'a fox' }, ALICE, { idempotencyKey: 'k' }),
      ),
    )
    expect(new Set(waiters.map(({ job }) => job.id)).size).toBe(1)
  })

  test('the bound of the queue is exact, however many ask at once', async () => {
    prefix = randomUUID()
    const [c, d] = [await open({ queue: 20 }), await open({ queue: 20 })]
    const asked = await Promise.allSettled(
      Array.from({ length: 200 }, (_, index) => [c, d][index % 2]!.submit({ prompt: `fox ${index}` }, ALICE)),
    )
    expect(asked.filter(({ status }) => status === 'fulfilled')).toHaveLength(2 + 20)
    const refused = asked.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []))
    expect(new Set(refused.map(({ code }) => code))).toEqual(new Set(['overloaded']))
    expect(c.queue()[0]).toMatchObject({ queued: 20, running: 2, admitted: 22 })
  })

  test('a cancel at one stops the run at the other', async () => {
    const { job } = await a.submit({ prompt: 'a fox' }, ALICE)
    await eventually(() => expect(runtime.runs).toHaveLength(1))
    expect(await b.cancel(job.id, ALICE)).toMatchObject({ state: 'cancelled' })
    expect(await a.cancel(job.id, ALICE)).toMatchObject({ state: 'cancelled' })
    await eventually(() => expect(runtime.runs[0]!.signal.aborted).toBe(true))
    await eventually(() => expect(a.queue()[0]).toMatchObject({ running: 0, releasing: 0 }))
  })

  test('an orphan of one is adopted at the other', async () => {
    const { waiter, adopter, prompt } = await within(GRACE_MS, async () => {
      const prompt = `fox ${randomUUID()}`
      const waiter = await a.submit({ prompt }, ALICE)
      await waiter.leave()
      return { waiter, adopter: await b.submit({ prompt }, ALICE), prompt }
    })
    expect(adopter).toMatchObject({ joined: true, job: { id: waiter.job.id } })
    await sleep(2 * GRACE_MS)
    const run = () => runtime.runs.find(({ request }) => request.prompt === prompt)
    await eventually(() => expect(run()).toBeDefined())
    run()!.finish()
    expect(await end(adopter)).toMatchObject({ state: 'succeeded' })
  })

  test('a server that vanishes leaves orphans, which the other one sweeps', async () => {
    prefix = randomUUID()
    const [gone, left] = [await open({ lockMs: 1000 }), await open({ lockMs: 1000 })]
    const { job } = await gone.submit({ prompt: 'a fox' }, ALICE)
    await gone.close()
    await eventually(async () => expect((await left.get(job.id, ALICE)).state).toBe('cancelled'))
    expect((await left.get(job.id, ALICE)).error?.message).toContain('Nobody waited')
  })

  test('adoption races the end of the grace 1000 times: never both', async () => {
    const COUNT = 1000
    const adopted = await races(COUNT, async (index) => {
      const prompt = `fox ${index}`
      const first = await a.submit({ prompt }, ALICE)
      await first.leave()
      // Around the end of the grace and the sweep after it; a sweep of either server comes every half second.
      await sleep(GRACE_MS * (0.5 + (2 * index) / COUNT))
      return { first, second: await b.submit({ prompt }, ALICE) }
    })
    // Due after all of them: when the sweep has ended this one, none is left that it could still end.
    const last = await a.submit({ prompt: 'the last fox' }, ALICE)
    await last.leave()
    const states = async (id: string) => (await a.get(id, ALICE)).state
    await eventually(async () => expect(await states(last.job.id)).toBe('cancelled'))
    const outcomes = await races(COUNT, async (index) => {
      const { first, second } = adopted[index]!
      const isAdopted = second.job.id === first.job.id
      expect(second.joined).toBe(isAdopted)
      expect(['queued', 'running']).toContain(await states(second.job.id))
      const state = await states(first.job.id)
      return `${isAdopted ? 'adopted' : 'made anew'}, ${state === 'cancelled' ? 'cancelled' : 'alive'}`
    })
    expect(new Set(outcomes)).toEqual(new Set(['adopted, alive', 'made anew, cancelled']))
  })

  test('an explicit cancel races a join 1000 times: whoever joined hears of it, nobody gets a dead job as new', async () => {
    const pairs = await races(1000, async (index) => {
      const request = { prompt: `fox ${index}`, seed: index }
      const first = await a.submit(request, ALICE)
      const [cancelled, second] = await Promise.all([a.cancel(first.job.id, ALICE), b.submit(request, ALICE)])
      return { first, cancelled, second }
    })
    for (const { first, cancelled, second } of pairs) {
      expect(cancelled.state).toBe('cancelled')
      if (second.job.id === first.job.id) expect(await end(second)).toMatchObject({ state: 'cancelled' })
      else expect(['queued', 'running']).toContain((await a.get(second.job.id, ALICE)).state)
    }
  })

  test('a delivery that got lost is repeated by whoever sweeps', async () => {
    const { job } = await a.submit({ prompt: 'a fox' }, ALICE)
    await eventually(() => expect(runtime.runs).toHaveLength(1))
    // A server that died between the grant of a slot and the delivery: the slot is there, the delivery is not.
    await valkey.ask(async (client) => {
      await client.hset(`${prefix}:book:v4:job:${job.id}`, 'run', '0', 'leaseAt', '0')
      await client.zadd(`${prefix}:book:v4:undelivered`, 1, `gpu|${job.id}`)
      const left = await client.keys(`${prefix}:gpu:${job.id}*`)
      if (left.length > 0) await client.del(...left)
      await client.del(`${prefix}:gpu:active`)
    })
    await eventually(() => expect(runtime.runs).toHaveLength(2))
  })

  test('without Valkey at the start it waits, says so, and begins by itself', async () => {
    const other = await startValkey()
    await other.kill()
    const lines: Record<string, unknown>[] = []
    const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
    const jobs = await open({ url: other.url, log })
    await expect(jobs.submit({ prompt: 'a fox' }, ALICE)).rejects.toMatchObject({
      code: 'overloaded',
      retryAfterSeconds: 2,
    })
    await expect(jobs.check()).rejects.toThrow(/no connection to 127\.0\.0\.1:\d+ for \d+ s/)
    expect(lines.filter(({ event }) => event === 'job store is away')).toHaveLength(1)
    await other.restart()
    await eventually(() => jobs.check())
    expect((await jobs.submit({ prompt: 'a fox' }, ALICE)).job.state).toMatch(/queued|running/)
    await jobs.close()
    await other.stop()
  })

  test('says loudly which settings of the server put jobs at risk', async () => {
    const risky = await startValkey({ appendonly: 'no', 'maxmemory-policy': 'allkeys-lru' })
    const lines: Record<string, unknown>[] = []
    const log = pino({ level: 'error' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
    const jobs = await open({ url: risky.url, log })
    await eventually(() =>
      expect(lines).toMatchObject([
        { event: 'JOBS MAY BE LOST', setting: 'set maxmemory-policy noeviction', is: 'allkeys-lru' },
        { event: 'JOBS MAY BE LOST', setting: 'set appendonly yes', is: 'no' },
      ]),
    )
    await jobs.close()
    await risky.stop()
  })

  test('a full server refuses new work and says that it is full', async () => {
    const small = await startValkey({ maxmemory: '1mb' })
    const jobs = await open({ url: small.url })
    await expect(jobs.submit({ prompt: 'a fox' }, ALICE)).rejects.toMatchObject({
      code: 'overloaded',
      message: expect.stringContaining('full'),
    })
    await jobs.close()
    await small.stop()
  })
})
