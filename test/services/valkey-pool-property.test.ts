/**
 * Three servers on one Valkey, whose replicas come and go, and refuse, at random, each as its own server sees
 * them: no replica ever draws more than its slots, no job is lost, and none is made twice.
 */
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import { createMemoryImages } from '../../src/images/memory.ts'
import { hasEnded, type Jobs, type Waiter } from '../../src/jobs/job.ts'
import { createValkeyJobs } from '../../src/jobs/valkey/jobs.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { createReplicaWorld, unavailable, type WorldPool } from '../fakes/replica-world.ts'
import { eventually } from '../support/eventually.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

const SLOTS: Readonly<Record<string, number>> = { a: 1, b: 1, c: 2, d: 3 }
const SERVERS = 3
const ALICE = { id: 'alice' }
/** Never passes while a sequence runs, however slow the machine. */
const NEVER_MS = 600_000
/** What several servers do takes a while to be done; a sequence goes on meanwhile, or waits this long. */
const PAUSE_MS = 15

const nth = fc.nat({ max: 40 })
const server = fc.nat({ max: SERVERS - 1 })
const some = fc.subarray(Object.keys(SLOTS))
const operation = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('submit' as const), server }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('see' as const), server, some }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('all see' as const), some }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('finish' as const), nth }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('refuse' as const), nth }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const), server }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('wait' as const) }) },
)
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never

describe.skipIf(findValkeyServer() === undefined)('three servers on one Valkey', () => {
  let valkey: ValkeyServer
  beforeAll(async () => {
    valkey = await startValkey({ appendonly: 'no' })
  })
  afterAll(() => valkey?.stop())

  async function play(operations: readonly Operation[]): Promise<void> {
    const world = createReplicaWorld()
    const images = createMemoryImages({ maxBytes: 2 ** 20 })
    const prefix = randomUUID()
    const open = async (): Promise<{ jobs: Jobs; pool: WorldPool }> => {
      const pool = world.pool({ seen: SLOTS })
      const target = {
        name: 'gpu',
        kind: 'simulated',
        concurrency: 1000,
        queue: 1000,
        queuePerCaller: 1000,
      } as const
      const jobs = await createValkeyJobs({
        targets: [{ ...target, defaults: {}, pool }],
        images,
        deadlineMs: NEVER_MS,
        orphanGraceMs: NEVER_MS,
        ttlSeconds: 600,
        log: pino({ level: 'silent' }),
        metrics: createMetrics(),
        url: fixedSecret(valkey.url),
        lockMs: 30_000,
        maxReruns: 1000,
        prefix,
      })
      return { jobs, pool }
    }
    const servers = await Promise.all(Array.from({ length: SERVERS }, open))
    const waiters: Waiter[] = []
    const cancelled = new Set<string>()
    const finished: number[] = []
    const finish = (run: { request: { seed: number }; finish(): void } | undefined) => {
      if (!run) return
      finished.push(run.request.seed)
      run.finish()
    }
    const pick = <T>(items: readonly T[], at: number) => items[at % Math.max(1, items.length)]
    const slotsOf = (names: readonly string[]) =>
      Object.fromEntries(names.map((name) => [name, SLOTS[name] as number]))

    async function perform(step: Operation): Promise<void> {
      switch (step.do) {
        case 'submit': {
          const { jobs } = servers[step.server]!
          const waiter = await jobs.submit({ prompt: 'a fox', seed: waiters.length }, ALICE)
          await waiter.detach()
          waiters.push(waiter)
          return
        }
        case 'see':
          return servers[step.server]!.pool.set(slotsOf(step.some))
        case 'all see':
          for (const { pool } of servers) pool.set(slotsOf(step.some))
          return
        case 'finish':
          return finish(pick(world.allOpen(), step.nth))
        case 'refuse':
          return pick(world.allOpen(), step.nth)?.fail(unavailable())
        case 'cancel': {
          const waiter = pick(waiters, step.nth)
          if (waiter && !hasEnded(await servers[0]!.jobs.cancel(waiter.job.id, ALICE)))
            throw new Error('goes on')
          if (waiter) cancelled.add(waiter.job.id)
          return
        }
        case 'restart':
          await servers[step.server]!.jobs.drain({ timeoutMs: 0 })
          await servers[step.server]!.jobs.close()
          servers[step.server] = await open()
          return
        case 'wait':
          await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
      }
    }

    try {
      for (const step of operations) {
        await perform(step)
        for (const [name, slots] of Object.entries(SLOTS))
          expect(world.open(name).length).toBeLessThanOrEqual(slots)
      }
      for (const { pool } of servers) pool.set(SLOTS)
      await eventually(async () => {
        for (const run of world.allOpen()) finish(run)
        for (const { job } of waiters)
          expect(hasEnded(await servers[0]!.jobs.get(job.id, ALICE)), `job ${job.request.seed}`).toBe(true)
      })
      for (const { job } of waiters) {
        const { state, image } = await servers[0]!.jobs.get(job.id, ALICE)
        // What is cancelled may have been finished before.
        if (!cancelled.has(job.id)) expect(state).toBe('succeeded')
        if (state === 'succeeded') expect(image).toMatchObject({ id: job.imageId, seed: job.request.seed })
      }
      expect(new Set(finished).size).toBe(finished.length)
      for (const [name, slots] of Object.entries(SLOTS)) expect(world.peak(name)).toBeLessThanOrEqual(slots)
      // Every slot is free again, of every replica.
      await eventually(() => {
        // A run that failed just now ejects its replica.
        for (const { pool } of servers) pool.set(SLOTS)
        expect(servers[0]!.jobs.queue()[0]).toMatchObject({
          concurrency: 7,
          running: 0,
          releasing: 0,
          queued: 0,
        })
      })
      for (let seed = 1000; seed < 1007; seed += 1)
        await servers[0]!.jobs.submit({ prompt: 'a fox', seed }, ALICE)
      await eventually(() => expect(world.allOpen()).toHaveLength(7))
      for (const [name, slots] of Object.entries(SLOTS)) expect(world.open(name)).toHaveLength(slots)
      for (const run of world.allOpen()) finish(run)
      await eventually(() => expect(servers[0]!.jobs.queue()[0]).toMatchObject({ running: 0, releasing: 0 }))
    } finally {
      await Promise.all(servers.map(({ jobs }) => jobs.close()))
    }
  }

  test('keep to the slots of every replica, and make every picture once', { timeout: 600_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { minLength: 20, maxLength: 60, size: 'max' }), play),
      { numRuns: Number(process.env.SEQUENCES ?? 15), endOnFailure: true },
    )
  })
})
