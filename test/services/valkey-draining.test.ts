/** A server that drains beside another one refuses nothing: what it admits, the other one runs. */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import { createMemoryImages } from '../../src/images/memory.ts'
import { hasEnded, type Job, type Jobs } from '../../src/jobs/job.ts'
import { createValkeyJobs } from '../../src/jobs/valkey/jobs.ts'
import { createPlainPool } from '../../src/runtimes/pool/pool.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { createManualRuntime } from '../fakes/manual-runtime.ts'
import { eventually } from '../support/eventually.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

const ALICE = { id: 'alice' }
const LONG_MS = 600_000

describe.skipIf(findValkeyServer() === undefined)('a server that drains', () => {
  let valkey: ValkeyServer
  let prefix: string
  let opened: Jobs[]
  beforeAll(async () => {
    valkey = await startValkey()
  })
  afterAll(() => valkey?.stop())
  beforeEach(() => {
    prefix = randomUUID()
    opened = []
  })
  afterEach(() => Promise.all(opened.map((jobs) => jobs.close())))

  /** A server with a runtime of its own, so that a run tells who made it. */
  async function open() {
    const runtime = createManualRuntime()
    const jobs = await createValkeyJobs({
      targets: [
        {
          name: 'gpu',
          kind: 'simulated',
          concurrency: 2,
          queue: 10,
          queuePerCaller: 10,
          defaults: {},
          pool: createPlainPool(runtime, { slots: 2 }),
        },
      ],
      images: createMemoryImages({ maxBytes: 2 ** 20 }),
      deadlineMs: LONG_MS,
      orphanGraceMs: LONG_MS,
      ttlSeconds: 600,
      log: pino({ level: 'silent' }),
      metrics: createMetrics(),
      url: fixedSecret(valkey.url),
      lockMs: 30_000,
      maxReruns: 3,
      prefix,
    })
    opened.push(jobs)
    return { jobs, runs: runtime.runs }
  }
  const ask = (jobs: Jobs, prompt: string) => jobs.submit({ prompt }, ALICE)
  /** Resolves with the last snapshot when the watch ends by itself. */
  const watched = async (snapshots: AsyncIterable<Job>) => {
    let last: Job | undefined
    for await (const job of snapshots) last = job
    return last as Job
  }

  test('beside another one it admits new work and hands out the handle, and the picture is made', async () => {
    const [a, b] = [await open(), await open()]
    const first = await ask(a.jobs, 'first')
    await eventually(() => expect(a.runs.length + b.runs.length).toBe(1))
    const drained = a.jobs.drain({ timeoutMs: LONG_MS })
    await eventually(async () => expect(hasEnded(await watched(first.watch()))).toBe(false))
    const late = await ask(a.jobs, 'late')
    expect(hasEnded(await watched(late.watch()))).toBe(false)
    await late.detach()
    await late.leave()
    // Its own worker may still have taken it; once that is paused, the other server's does.
    const runs = () => [...a.runs, ...b.runs]
    await eventually(() => expect(runs().map(({ request }) => request.prompt)).toContain('late'))
    for (const { finish } of runs()) finish()
    await drained
    await ask(a.jobs, 'later')
    await eventually(() => expect(b.runs.map(({ request }) => request.prompt)).toContain('later'))
    await eventually(async () => expect((await b.jobs.get(late.job.id, ALICE)).state).toBe('succeeded'))
  })

  test('who follows a job by its id goes on waiting until the server has nothing left to do', async () => {
    const a = await open()
    const { job } = await ask(a.jobs, 'long')
    await eventually(() => expect(a.runs).toHaveLength(1))
    await open()
    const drained = a.jobs.drain({ timeoutMs: LONG_MS })
    const seen: string[] = []
    const following = (async () => {
      for await (const { state, progress } of a.jobs.watch(job.id, ALICE))
        seen.push(progress ? 'step' : state)
    })()
    await eventually(() => expect(seen).toContain('running'))
    a.runs[0]!.step(1, 2)
    await eventually(() => expect(seen).toContain('step'))
    a.runs[0]!.finish()
    await following
    await drained
    // The end of the job ends the drain: a follower may hear of either first.
    expect(['step', 'succeeded']).toContain(seen.at(-1))
    expect((await a.jobs.get(job.id, ALICE)).state).toBe('succeeded')
  })

  test('a job of another server: who follows it by its id is sent on when the drain is over', async () => {
    const b = await open()
    const { job } = await ask(b.jobs, 'long')
    await eventually(() => expect(b.runs).toHaveLength(1))
    const a = await open()
    const following = watched(a.jobs.watch(job.id, ALICE))
    await a.jobs.drain({ timeoutMs: LONG_MS })
    expect((await following).state).toBe('running')
  })

  test('when all of them drain nobody would run what comes: they refuse it, and finish what there is', async () => {
    const [a, b] = [await open(), await open()]
    for (const prompt of ['1', '2', '3', '4']) await ask(a.jobs, prompt)
    await eventually(() => expect(a.runs.length + b.runs.length).toBe(2))
    const drained = Promise.all([a, b].map(({ jobs }) => jobs.drain({ timeoutMs: LONG_MS })))
    await eventually(async () => expect(await a.jobs.othersServe()).toBe(false))
    for (const { jobs } of [a, b])
      await eventually(() => expect(ask(jobs, 'late')).rejects.toMatchObject({ code: 'overloaded' }))
    await eventually(async () => {
      for (const { finish } of [...a.runs, ...b.runs]) finish()
      expect(b.jobs.queue()[0]!.ended.succeeded).toBeGreaterThanOrEqual(4)
    })
    await drained
  })
})
