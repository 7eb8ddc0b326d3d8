/** Whose ended jobs are forgotten first, and what a Valkey that is full still does. Both backends behave alike. */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import { createMemoryImages } from '../../src/images/memory.ts'
import type { Jobs, JobsOptions } from '../../src/jobs/job.ts'
import { createMemoryJobs } from '../../src/jobs/memory/jobs.ts'
import { createValkeyJobs } from '../../src/jobs/valkey/jobs.ts'
import { createPlainPool } from '../../src/runtimes/pool/pool.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { infoField } from '../../src/valkey/connection.ts'
import { RESERVE_BYTES } from '../../src/valkey/memory.ts'
import { createManualRuntime } from '../fakes/manual-runtime.ts'
import { eventually } from '../support/eventually.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

const ALICE = { id: 'token:alice' }
const BOB = { id: 'token:bob' }
const REMEMBERED = 10
const NEVER_MS = 600_000

describe.skipIf(findValkeyServer() === undefined)('jobs that have ended', () => {
  let valkey: ValkeyServer
  let jobs: Jobs
  let runtime: ReturnType<typeof createManualRuntime>
  beforeAll(async () => {
    valkey = await startValkey({ appendonly: 'no' })
  })
  afterAll(() => valkey?.stop())
  afterEach(() => jobs?.close())

  async function open(backend: 'memory' | 'valkey'): Promise<void> {
    runtime = createManualRuntime()
    const options: JobsOptions = {
      targets: [
        {
          ...{ name: 'gpu', kind: 'simulated', concurrency: 1, queue: 50, queuePerCaller: 50 },
          pool: createPlainPool(runtime, { slots: 1 }),
          defaults: { width: 512, height: 512, num_inference_steps: 20 },
        },
      ],
      images: createMemoryImages({ maxBytes: 2 ** 20 }),
      ...{ deadlineMs: NEVER_MS, orphanGraceMs: NEVER_MS, ttlSeconds: 600, remembered: REMEMBERED },
      log: pino({ level: 'silent' }),
      metrics: createMetrics(),
    }
    const shared = { url: fixedSecret(valkey.url), lockMs: NEVER_MS, maxReruns: 3, prefix: randomUUID() }
    jobs =
      backend === 'memory' ? createMemoryJobs(options) : await createValkeyJobs({ ...options, ...shared })
  }

  /** Has jobs cancelled; returns their ids, oldest first. */
  async function end(caller: typeof ALICE, count: number): Promise<string[]> {
    const ids: string[] = []
    for (let n = 0; n < count; n += 1) {
      const { job } = await jobs.submit({ prompt: `${n}` }, caller)
      ids.push((await jobs.cancel(job.id, caller)).id)
    }
    return ids
  }
  const found = async (ids: string[], caller: typeof ALICE) => {
    const known = await Promise.all(
      ids.map((id) => jobs.get(id, caller).catch(({ code }) => void expect(code).toBe('not_found'))),
    )
    return ids.filter((_, index) => known[index])
  }

  describe.each(['memory', 'valkey'] as const)('in %s', (backend) => {
    test('are forgotten oldest first, of whoever has most', async () => {
      await open(backend)
      const ofBob = await end(BOB, 3)
      const ofAlice = await end(ALICE, 20)
      expect(await found(ofBob, BOB)).toEqual(ofBob)
      expect(await found(ofAlice, ALICE)).toEqual(ofAlice.slice(-7))
      const more = await end(BOB, 4)
      // Five each.
      expect(await found([...ofBob, ...more], BOB)).toEqual([...ofBob, ...more].slice(-5))
      expect(await found(ofAlice, ALICE)).toEqual(ofAlice.slice(-5))
    })

    test('have no prompts, and a finished one gets them from its picture', async () => {
      await open(backend)
      const request = { prompt: 'a fox', negative_prompt: 'a bear', guidance_scale: 7.1, seed: 4294967295 }
      const waiter = await jobs.submit(request, ALICE, { idempotencyKey: 'k' })
      await eventually(() => expect(runtime.runs).toHaveLength(1))
      expect(runtime.runs[0]?.request).toMatchObject(request)
      runtime.runs[0]?.finish()
      await eventually(async () => expect((await jobs.get(waiter.job.id, ALICE)).state).toBe('succeeded'))
      const { job } = await jobs.submit(request, ALICE, { idempotencyKey: 'k' })
      expect(job).toMatchObject({ id: waiter.job.id, request: { seed: 4294967295, guidance_scale: 7.1 } })
      expect(job.request).not.toHaveProperty('prompt')
      expect((await jobs.get(job.id, ALICE)).image).toMatchObject({
        prompt: 'a fox',
        negative_prompt: 'a bear',
      })
      await expect(
        jobs.submit({ ...request, seed: 1 }, ALICE, { idempotencyKey: 'k' }),
      ).rejects.toMatchObject({
        code: 'conflict',
      })
    })

    test('an orphan is adopted under four keys, and no more', async () => {
      await open(backend)
      await jobs.submit({ prompt: 'keeps the slot' }, BOB)
      const ids: string[] = []
      for (let n = 0; n < 6; n += 1) {
        const waiter = await jobs.submit({ prompt: 'a fox' }, ALICE, { idempotencyKey: `${n}` })
        ids.push(waiter.job.id)
        await waiter.leave()
      }
      expect(new Set(ids.slice(0, 4)).size).toBe(1)
      expect(ids[4]).not.toBe(ids[0])
      expect(ids[5]).toBe(ids[4])
    })
  })

  describe('in a Valkey that is full', () => {
    const limit = (maxmemory: string) => valkey.ask((client) => client.config('SET', 'maxmemory', maxmemory))
    afterEach(() => limit('0'))

    test('or nearly so, are admitted only while more than the reserve is left', async () => {
      await open('valkey')
      const used = () =>
        valkey.ask(async (client) => Number(infoField(await client.info('memory'), 'used_memory')))
      await limit(String((await used()) + RESERVE_BYTES / 2))
      await expect(jobs.submit({ prompt: 'new' }, BOB)).rejects.toThrow('The job store is full')
      await limit(String((await used()) + RESERVE_BYTES * 2))
      expect((await jobs.submit({ prompt: 'new' }, BOB)).joined).toBe(false)
    })

    test('end, and those that go on do; only new ones are refused', async () => {
      await open('valkey')
      const [running, waiting, other] = [
        await jobs.submit({ prompt: 'runs' }, ALICE, { idempotencyKey: 'runs' }),
        await jobs.submit({ prompt: 'waits' }, ALICE),
        await jobs.submit({ prompt: 'is cancelled' }, BOB),
      ]
      await eventually(() => expect(runtime.runs).toHaveLength(1))
      await limit('1')
      await expect(jobs.submit({ prompt: 'new' }, BOB)).rejects.toMatchObject({
        code: 'overloaded',
        message: 'The job store is full; try again later.',
        retryAfterSeconds: 5,
      })
      await eventually(() => expect(jobs.check()).rejects.toThrow('The job store is full'))
      const retry = await jobs.submit({ prompt: 'runs' }, ALICE, { idempotencyKey: 'runs' })
      expect(retry.job.id).toBe(running.job.id)
      expect((await jobs.cancel(other.job.id, BOB)).state).toBe('cancelled')
      runtime.runs[0]?.finish()
      await eventually(async () => expect((await jobs.get(running.job.id, ALICE)).state).toBe('succeeded'))
      await limit('0')
      await eventually(() => expect(jobs.check()).resolves.toBeUndefined())
      await eventually(() => expect(runtime.runs).toHaveLength(2), 60_000)
      runtime.runs[1]?.finish()
      await eventually(async () => expect((await jobs.get(waiting.job.id, ALICE)).state).toBe('succeeded'))
    })
  })
})
