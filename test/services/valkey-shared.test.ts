/** Two job backends on one Valkey, as two servers have them, in one process: what they do to each other's jobs. */
import { randomUUID } from 'node:crypto'
import { type Logger, pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import { createMemoryImages } from '../../src/images/memory.ts'
import type { Job, Jobs, Waiter } from '../../src/jobs/job.ts'
import { createValkeyJobs } from '../../src/jobs/valkey/jobs.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { createManualRuntime } from '../fakes/manual-runtime.ts'
import { eventually } from '../support/eventually.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

const ALICE = { id: 'alice' }
const GRACE_MS = 600

describe.skipIf(findValkeyServer() === undefined)('two servers on one Valkey', () => {
  let valkey: ValkeyServer
  let runtime: ReturnType<typeof createManualRuntime>
  let prefix: string
  let a: Jobs
  let b: Jobs
  let opened: Jobs[]

  const open = async (options: { queue?: number; log?: Logger; url?: string; lockMs?: number } = {}) => {
    const { queue = 2000, log = pino({ level: 'silent' }), url = valkey.url, lockMs = 1000 } = options
    const jobs = await createValkeyJobs({
      targets: [
        {
          ...{ name: 'gpu', kind: 'simulated', concurrency: 2, queue, queuePerCaller: queue },
          ...{ defaults: { width: 64, height: 64, num_inference_steps: 10 }, runtime },
        },
      ],
      images: createMemoryImages({ maxBytes: 2 ** 24 }),
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
    const waiter = await a.submit({ prompt: 'a fox' }, ALICE)
    await eventually(() => expect(runtime.runs).toHaveLength(1))
    await waiter.leave()
    const adopter = await b.submit({ prompt: 'a fox' }, ALICE)
    expect(adopter).toMatchObject({ joined: true, job: { id: waiter.job.id } })
    await new Promise((resolve) => setTimeout(resolve, 2 * GRACE_MS))
    runtime.runs[0]!.finish()
    expect(await end(adopter)).toMatchObject({ state: 'succeeded' })
  })

  test('a server that vanishes leaves orphans, which the other one sweeps', async () => {
    const { job } = await a.submit({ prompt: 'a fox' }, ALICE)
    await a.close()
    await eventually(async () => expect((await b.get(job.id, ALICE)).state).toBe('cancelled'), 20_000)
    expect((await b.get(job.id, ALICE)).error?.message).toContain('Nobody waited')
  })

  test('adoption races the end of the grace 1000 times: never both', async () => {
    const COUNT = 1000
    const prompts = Array.from({ length: COUNT }, (_, index) => `fox ${index}`)
    const waiters = await Promise.all(prompts.map((prompt) => a.submit({ prompt }, ALICE)))
    await Promise.all(waiters.map((waiter) => waiter.leave()))
    // The grace of all ends about now; a sweep every half second of either server ends the orphans in batches.
    const adopters = await Promise.all(
      prompts.map(async (prompt, index) => {
        await new Promise((resolve) => setTimeout(resolve, GRACE_MS * (0.5 + (2 * index) / COUNT)))
        return await b.submit({ prompt }, ALICE)
      }),
    )
    // Long enough for every sweep that could still be wrong.
    await new Promise((resolve) => setTimeout(resolve, 4 * GRACE_MS))
    const outcomes = await Promise.all(
      waiters.map(async ({ job }, index) => {
        const adopted = adopters[index]!.job.id === job.id
        expect(adopters[index]!.joined).toBe(adopted)
        const { state } = await a.get(job.id, ALICE)
        return `${adopted ? 'adopted' : 'made anew'}, ${state === 'cancelled' ? 'cancelled' : 'alive'}`
      }),
    )
    expect(new Set(outcomes)).toEqual(new Set(['adopted, alive', 'made anew, cancelled']))
    for (const adopter of adopters)
      expect(['queued', 'running']).toContain((await b.get(adopter.job.id, ALICE)).state)
  })

  test('an explicit cancel races a join 1000 times: whoever joined hears of it, nobody gets a dead job as new', async () => {
    const pairs = await Promise.all(
      Array.from({ length: 1000 }, async (_, index) => {
        const request = { prompt: `fox ${index}`, seed: index }
        const first = await a.submit(request, ALICE)
        const [cancelled, second] = await Promise.all([
          a.cancel(first.job.id, ALICE),
          b.submit(request, ALICE),
        ])
        return { first, cancelled, second }
      }),
    )
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
      await client.hset(`${prefix}:book:v2:job:${job.id}`, 'run', '0', 'leaseAt', '0')
      await client.zadd(`${prefix}:book:v2:undelivered`, 1, `gpu|${job.id}`)
      const left = await client.keys(`${prefix}:gpu:${job.id}*`)
      if (left.length > 0) await client.del(...left)
      await client.del(`${prefix}:gpu:active`)
    })
    await eventually(() => expect(runtime.runs).toHaveLength(2), 20_000)
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
