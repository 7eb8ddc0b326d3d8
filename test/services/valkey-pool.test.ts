/** What every job backend promises of targets with many replicas, held by the one in Valkey over a real server. */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import { createMemoryImages } from '../../src/images/memory.ts'
import { createValkeyJobs } from '../../src/jobs/valkey/jobs.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { MAX_RERUNS, replicasContract } from '../backends/jobs-replicas.ts'
import { createReplicaWorld, unavailable } from '../fakes/replica-world.ts'
import { eventually } from '../support/eventually.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

/** Longer than this process stands still: no run is lost and begun again that way. */
const LOCK_MS = 30_000

describe.skipIf(findValkeyServer() === undefined)('on Valkey', () => {
  let valkey: ValkeyServer
  beforeAll(async () => {
    valkey = await startValkey()
  })
  afterAll(() => valkey?.stop())

  replicasContract('replicas and jobs in Valkey', async (parts) => {
    const jobs = await createValkeyJobs({
      ...parts,
      url: fixedSecret(valkey.url),
      lockMs: LOCK_MS,
      maxReruns: MAX_RERUNS,
      prefix: randomUUID(),
    })
    return { jobs, close: () => jobs.close() }
  })
  test('a replica that failed at one server gets no jobs from the others, until that one sees it again', async () => {
    const world = createReplicaWorld()
    const prefix = randomUUID()
    const open = async () => {
      const pool = world.pool({ seen: { a: 1, b: 1 } })
      const target = { name: 'gpu', kind: 'simulated', concurrency: 9, queue: 9, queuePerCaller: 9 } as const
      const jobs = await createValkeyJobs({
        ...{
          targets: [{ ...target, defaults: {}, pool }],
          images: createMemoryImages({ maxBytes: 2 ** 20 }),
        },
        ...{ deadlineMs: 600_000, orphanGraceMs: 600_000, ttlSeconds: 600, log: pino({ level: 'silent' }) },
        ...{ metrics: createMetrics(), url: fixedSecret(valkey.url), lockMs: LOCK_MS, maxReruns: 3, prefix },
      })
      return { pool, jobs, concurrency: () => jobs.queue()[0]?.concurrency }
    }
    const servers = [await open(), await open()]
    await servers[0]?.jobs.submit({ prompt: 'a fox' }, { id: 'alice' })
    await eventually(() => expect(world.runs).toHaveLength(1))
    world.runs[0]?.fail(unavailable())
    await eventually(() => expect(world.runs[1]?.replica).toBe('b'))
    // One of them still sees it.
    expect(servers.map(({ pool }) => pool.ready().length).sort()).toEqual([1, 2])
    for (const { concurrency } of servers) await eventually(() => expect(concurrency()).toBe(1))
    for (const { pool } of servers) pool.set({ a: 1, b: 1 })
    for (const { concurrency } of servers) await eventually(() => expect(concurrency()).toBe(2))
    world.runs[1]?.finish()
    await Promise.all(servers.map(({ jobs }) => jobs.close()))
  })
})
