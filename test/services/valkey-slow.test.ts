/** Servers on a Valkey that is slow, silent or back, and what many runs and many who wait cost it. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import { createMemoryImages } from '../../src/images/memory.ts'
import type { Job, Jobs } from '../../src/jobs/job.ts'
import { createBook } from '../../src/jobs/valkey/book/book.ts'
import { createValkeyJobs } from '../../src/jobs/valkey/jobs.ts'
import { createPlainPool } from '../../src/runtimes/pool/pool.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { connectValkey } from '../../src/valkey/connection.ts'
import { createManualRuntime } from '../fakes/manual-runtime.ts'
import { eventually } from '../support/eventually.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'
import { startValkeyProxy, type ValkeyProxy } from '../support/valkey-proxy.ts'

const ALICE = { id: 'alice' }
/** Longer than this process stands still. */
const LOCK_MS = 30_000
/** Longer than the timeout of a command, 2 s. */
const HELD_MS = 4000
/** What only the connection for the jobs' own commands carries, twice a second. */
const SWEEP = '\r\nsweep\r\n'

describe.skipIf(findValkeyServer() === undefined)('on a Valkey', () => {
  let valkey: ValkeyServer
  let proxy: ValkeyProxy
  let runtime: ReturnType<typeof createManualRuntime>
  let opened: Jobs[]
  let events: string[]
  let prefix: string

  const open = async (options: { concurrency?: number; lockMs?: number; url?: string } = {}) => {
    const { concurrency = 2, lockMs = LOCK_MS, url = valkey.url } = options
    const jobs = await createValkeyJobs({
      targets: [
        {
          ...{
            name: 'gpu',
            kind: 'simulated',
            concurrency,
            queue: 5000,
            queuePerCaller: 5000,
            pool: createPlainPool(runtime, { slots: concurrency }),
          },
          defaults: { width: 64, height: 64, num_inference_steps: 10 },
        },
      ],
      images: createMemoryImages({ maxBytes: 2 ** 24 }),
      deadlineMs: 600_000,
      orphanGraceMs: 600_000,
      ttlSeconds: 600,
      log: pino({ level: 'info' }, { write: (line: string) => void events.push(JSON.parse(line).event) }),
      metrics: createMetrics(),
      url: fixedSecret(url),
      lockMs,
      maxReruns: 3,
      prefix,
    })
    opened.push(jobs)
    return jobs
  }
  const submit = (jobs: Jobs, count: number) =>
    Promise.all(Array.from({ length: count }, (_, at) => jobs.submit({ prompt: `fox ${at}` }, ALICE)))
  const calls = async (name: string) => (await valkey.commandCalls())[name] ?? 0

  beforeAll(async () => {
    valkey = await startValkey()
  })
  afterAll(() => valkey?.stop())
  beforeEach(async () => {
    proxy = await startValkeyProxy(valkey)
    runtime = createManualRuntime()
    opened = []
    events = []
    prefix = randomUUID()
  })
  afterEach(async () => {
    proxy.release()
    await Promise.all(opened.map((jobs) => jobs.close()))
    await proxy.stop()
  })

  test('that holds commands for longer than their timeout, nothing is refused, and every slot reaches the runtime', async () => {
    const slow = await open({ url: proxy.url })
    const quick = await open()
    // The proxy knows the connection by its sweeps.
    await sleep(1000)
    proxy.hold(SWEEP)
    const held = submit(slow, 20)
    const others = await submit(quick, 20)
    expect(others).toHaveLength(20)
    await sleep(HELD_MS)
    expect(slow.isCutOff()).toBe(false)
    await slow.check()
    proxy.release()
    expect(await held).toHaveLength(20)
    await eventually(() => expect(runtime.runs.length).toBe(2))
    expect(events).not.toContain('job store is away')
    expect(events).not.toContain('job runs again')
  })

  test('that is slow to tell places in the queue, jobs are admitted, started and finished', async () => {
    const jobs = await open({ url: proxy.url })
    const waiters = await submit(jobs, 4)
    const last = waiters[3]!
    await waiters[2]!.leave()
    await jobs.cancel(waiters[2]!.job.id, ALICE)
    await eventually(() => expect(last.job.position).toBe(1))
    proxy.hold('\r\nsnapshots\r\n')
    const [next] = await submit(jobs, 1)
    for (const at of [0, 1, 2, 3]) {
      await eventually(() => expect(runtime.runs.length).toBeGreaterThan(at))
      runtime.runs[at]!.finish()
    }
    for (const { job } of [last, next!])
      await eventually(async () => expect((await jobs.get(job.id, ALICE)).state).toBe('succeeded'))
    proxy.release()
    await eventually(() => expect(last.job.state).toBe('succeeded'))
  })

  test('that is silent, a server says so, and comes back by itself', async () => {
    const jobs = await open()
    valkey.freeze()
    try {
      await expect(jobs.submit({ prompt: 'a fox' }, ALICE)).rejects.toMatchObject({
        code: 'overloaded',
        message: 'The job store cannot be reached at the moment; try again shortly.',
      })
      expect(jobs.isCutOff()).toBe(true)
      expect(events.filter((event) => event === 'job store is away')).toHaveLength(1)
    } finally {
      valkey.thaw()
    }
    await eventually(() => jobs.check())
    await submit(jobs, 1)
  })

  test('that answers PINGs and nothing else, a broken connection is replaced', {
    timeout: 120_000,
  }, async () => {
    const jobs = await open({ url: proxy.url })
    await sleep(1000)
    proxy.hold(SWEEP)
    await expect(jobs.submit({ prompt: 'a fox' }, ALICE)).rejects.toMatchObject({ code: 'overloaded' })
    // The new connection has sent nothing of the kind yet when it is found to be well.
    await eventually(() => expect(events).toContain('job store is back'))
  })

  test('that cut the connections of a server with 1000 who wait, it reads them in few scripts', async () => {
    const jobs = await open({ url: proxy.url, concurrency: 1 })
    const waiters = await submit(jobs, 1000)
    await eventually(() => expect(runtime.runs).toHaveLength(1))
    const before = await calls('evalsha')
    proxy.cut()
    await eventually(() => expect(events).toContain('job store is back'))
    // Its place is told after all that the reconnect brought is read.
    const last = waiters.at(-1)!
    const { position } = last.job
    await waiters[1]!.leave()
    await jobs.cancel(waiters[2]!.job.id, ALICE)
    await eventually(() => expect(last.job.position).toBeLessThan(position!))
    expect((await calls('evalsha')) - before).toBeLessThan(100)
  })

  test('steps of a job that nobody follows are kept, and published to nobody', async () => {
    const jobs = await open()
    const waiter = (await submit(jobs, 1))[0]!
    const { id } = waiter.job
    await waiter.detach()
    await waiter.leave()
    await eventually(() => expect(runtime.runs).toHaveLength(1))
    await eventually(async () => expect((await jobs.get(id, ALICE)).state).toBe('running'))
    const before = await calls('publish')
    for (const step of [1, 2, 3]) {
      runtime.runs[0]!.step(step, 10)
      await eventually(async () => expect((await jobs.get(id, ALICE)).progress).toEqual({ step, steps: 10 }))
    }
    expect(await calls('publish')).toBe(before)

    // Who comes later sees the step at once, and all that follow.
    const seen: Job[] = []
    const watching = (async () => {
      for await (const job of jobs.watch(id, ALICE)) seen.push(job)
    })()
    await eventually(() => expect(seen.at(-1)?.progress).toEqual({ step: 3, steps: 10 }))
    runtime.runs[0]!.step(4, 10)
    await eventually(() => expect(seen.at(-1)?.progress).toEqual({ step: 4, steps: 10 }))
    runtime.runs[0]!.finish()
    await watching
  })

  test('the steps of all runs of a server are one message', async () => {
    const jobs = await open({ concurrency: 50 })
    const waiters = await submit(jobs, 50)
    await eventually(() => expect(runtime.runs).toHaveLength(50))
    await eventually(() => expect(waiters.map(({ job }) => job.state)).toEqual(Array(50).fill('running')))
    const before = await calls('publish')
    for (const run of runtime.runs) run.step(1, 10)
    await eventually(() =>
      expect(waiters.map(({ job }) => job.progress)).toEqual(Array(50).fill({ step: 1, steps: 10 })),
    )
    expect((await calls('publish')) - before).toBe(1)
  })

  test('the locks of all deliveries of a server are renewed together', async () => {
    const jobs = await open({ concurrency: 40, lockMs: 1500 })
    await submit(jobs, 40)
    await eventually(() => expect(runtime.runs).toHaveLength(40))
    const [scripts, locks] = [await calls('evalsha'), await calls('set')]
    // Each lock is set by each renewal.
    await eventually(async () => expect((await calls('set')) - locks).toBeGreaterThanOrEqual(10 * 40))
    const renewed = (await calls('set')) - locks
    expect((await calls('evalsha')) - scripts).toBeLessThan(renewed / 4)
    expect(events).not.toContain('job runs again')
  })

  test('a reply that nobody waits for any more says that the server is back', async () => {
    const connection = connectValkey({
      url: fixedSecret(valkey.url),
      what: 'job store',
      log: pino({ level: 'silent' }),
    })
    await connection.connected
    valkey.freeze()
    try {
      await expect(connection.use((client) => client.ping())).rejects.toThrow('cannot be reached')
      expect(connection.isAway()).toBe(true)
    } finally {
      valkey.thaw()
    }
    await eventually(() => expect(connection.isAway()).toBe(false))
    await connection.close()
  })

  test('a start that is repeated, because its answer got lost, is the same run', async () => {
    const connection = connectValkey({
      url: fixedSecret(valkey.url),
      what: 'job store',
      log: pino({ level: 'silent' }),
    })
    await connection.connected
    const book = createBook({ valkey: connection, prefix, onEffects: () => {} })
    await book.target({ target: 'gpu', concurrency: 1 })
    const id = randomUUID()
    await book.submit({
      ...{ id, imageId: randomUUID(), owner: 'alice', anonymous: false, target: 'gpu', request: '{}' },
      ...{ requestHash: 'hash', seeded: false, waiter: 'w', leaseMs: 60_000, deadlineMs: 60_000, graceMs: 0 },
      ...{ ttlMs: 60_000, cost: 1, concurrency: 1, queueLimit: 1, queueLimitOfCaller: 1 },
      ...{ measured: false, stale: false, closed: false },
    })
    const start = (attempt: string) =>
      book.start({ id, target: 'gpu', attempt, lockMs: 60_000, maxReruns: 1, exhausted: '' })
    expect(await start('one')).toMatchObject({ verdict: 'go', run: 1 })
    expect(await start('one')).toMatchObject({ verdict: 'go', run: 1 })
    expect(await start('two')).toMatchObject({ verdict: 'held' })
    await connection.close()
  })
})
