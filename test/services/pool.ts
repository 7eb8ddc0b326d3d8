/**
 * A target with four replicas, as callers see it while replicas are killed, slow, silent, hung and busy. It runs against
 * every kind of server, each in a file of its own, because they mostly wait.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { SimulatedFaults } from '../../src/runtimes/simulated/faults.ts'
import { eventually } from '../support/eventually.ts'
import { type Engine, type Running, startServer } from '../support/process.ts'
import { call, type Load, startLoad, startReplicas, TOKEN } from '../support/replicas.ts'
import { type PoolReplica, type RuntimePool, startRuntimePool } from '../support/runtime-pool.ts'

const COUNT = 4
const STEPS = 10
const MS_PER_STEP = 20
/** More than the replicas' slots, so that all of them always have work. */
const CALLERS = 10
/** Ends a hang: nothing is found, and no back-off is over, later than this, in milliseconds. */
const FOUND_MS = 150_000

const env = {
  MCP_AUTH_TOKEN: TOKEN,
  RATE_LIMIT_PER_MINUTE: '0',
  IMAGE_URL_KEY: 'one-key-for-all-servers-of-the-tests',
}
const withTarget = (pool: RuntimePool, more: object = {}) => ({
  ...env,
  RUNTIMES: JSON.stringify([
    {
      ...{ name: 'gpu', kind: 'kserve', model: 'model', queue: 1000, queuePerCaller: 1000 },
      ...{ urls: pool.replicas.map(({ url }) => url), slots: 1, ...more },
      defaults: { width: 64, height: 64, num_inference_steps: STEPS },
    },
  ]),
})

/** What it is called, and the faults of the first replicas. */
type Hang = [string, SimulatedFaults[]]

export interface Servers {
  readonly servers: readonly Running[]
  stop(): Promise<unknown>
}

/** One server with jobs in memory. */
export const alone =
  (engine: Engine) =>
  async (settings: Record<string, string>): Promise<Servers> => {
    const server = await startServer(engine, settings)
    return { servers: [server], stop: () => server.stop() }
  }

/** Servers that share one Valkey. */
export const onOneValkey =
  (engines: readonly Engine[]) =>
  (settings: Record<string, string>): Promise<Servers> =>
    // The settings name the target: there is no single runtime.
    startReplicas({ engines, concurrency: COUNT, runtime: { url: 'http://127.0.0.1:1' }, env: settings })

/**
 * What callers of these servers see.
 * @param options.firstSteps true to wait for a hang before the first step as well, which takes two minutes to find. That
 * is the same code for every kind of server.
 */
export function describePool(
  open: (env: Record<string, string>) => Promise<Servers>,
  { firstSteps = false } = {},
): void {
  describe('a pool of four replicas under load', { timeout: 400_000 }, () => {
    let pool: RuntimePool
    let group: Servers
    let load: Load
    beforeEach(async () => {
      pool = await startRuntimePool({ count: COUNT, msPerStep: MS_PER_STEP })
      group = await open(withTarget(pool))
      load = startLoad({ callers: CALLERS, servers: () => group.servers })
      // All replicas draw, and what a picture takes is known.
      for (const replica of pool.replicas)
        await eventually(async () => expect((await replica.stats()).finished).toBeGreaterThan(1))
    })
    afterEach(async () => {
      // A test that failed leaves callers behind.
      void load?.finish().catch(() => {})
      await group?.stop()
      await pool?.stop()
    })

    const first = () => pool.replicas[0] as PoolReplica
    const others = () => pool.replicas.slice(1)
    const finishedOf = (replicas: readonly PoolReplica[]) =>
      Promise.all(replicas.map(async (replica) => (await replica.stats()).finished))
    /** Resolves when it made so many more. */
    const draws = async (replica: PoolReplica, more: number) => {
      const { finished } = await replica.stats()
      await eventually(async () => {
        const stats = await replica.stats()
        expect({ ...stats, failures: load.failures.slice(0, 3) }).toMatchObject({ failures: [] })
        expect(stats.finished).toBeGreaterThanOrEqual(finished + more)
      }, FOUND_MS)
    }

    /** Nothing asks for more; every caller so far got a picture of its own, and none an error on the way. */
    async function expectNobodyNoticed(): Promise<void> {
      const answers = await load.finish()
      expect(load.failures.slice(0, 3)).toEqual([])
      expect(answers.filter(({ state }) => state !== 'succeeded')).toEqual([])
      expect(new Set(answers.map(({ image_id }) => image_id)).size).toBe(answers.length)
    }
    /** No replica ever had more than its slot. */
    async function expectOneAtATime(): Promise<void> {
      for (const replica of pool.replicas) expect((await replica.stats()).peak).toBe(1)
    }

    test('one is killed while it draws, and comes back', async () => {
      await eventually(async () => expect((await first().stats()).running).toBe(1))
      await first().kill()
      for (const replica of others()) await draws(replica, 5)
      await first().restart()
      await draws(first(), 3)
      await expectNobodyNoticed()
      await expectOneAtATime()
    })

    test('one is ten times slower: the others make as much as before', async () => {
      await first().setFaults({ msPerStep: 10 * MS_PER_STEP })
      const before = await finishedOf(pool.replicas)
      await draws(first(), 3)
      const [slow, ...rest] = (await finishedOf(pool.replicas)).map((made, index) => made - before[index]!)
      // Ten times as much on a quiet machine; in turns it would be the same.
      for (const made of rest) expect(made).toBeGreaterThan(2 * slow!)
      await expectNobodyNoticed()
      await expectOneAtATime()
    })

    // Two at once, because a replica has two minutes for its first step.
    const halfWay: Hang = ['one stops half-way', [{ hangAfterStep: STEPS / 2 }]]
    // Two at once, because a replica has two minutes for its first step.
    const silent: Hang = [
      'one accepts and never answers, one answers and never makes a step',
      [{ silent: true }, { hangAfterStep: 0 }],
    ]
    test.each<Hang>(firstSteps ? [silent, halfWay] : [halfWay])(
      '%s: that is found, the pictures are made elsewhere, and it is asked again later',
      async (_, faults) => {
        const faulty = pool.replicas.slice(0, faults.length)
        for (const [index, replica] of faulty.entries())
          await replica.setFaults(faults[index] as SimulatedFaults)
        for (const replica of pool.replicas.slice(faults.length)) await draws(replica, 5)
        // With its answer the caller whose picture hung has gone elsewhere; without, this never ends.
        await expectNobodyNoticed()
        for (const replica of faulty) await replica.setFaults({})
        load = startLoad({ callers: CALLERS, servers: () => group.servers, name: 'later' })
        for (const replica of faulty) await draws(replica, 2)
        await expectNobodyNoticed()
      },
    )

    test.each([429, 503] as const)(
      'one refuses with %i and Retry-After: it is busy, and the others draw',
      async (status) => {
        await first().setFaults({ refuse: { status, retryAfterSeconds: 1 } })
        for (const replica of others()) await draws(replica, 5)
        await first().setFaults({})
        await draws(first(), 2)
        await expectNobodyNoticed()
        await expectOneAtATime()
      },
    )
  })

  test('without any replica jobs wait where the target scales from zero, until one starts', async () => {
    const pool = await startRuntimePool({ count: COUNT, msPerStep: 0, started: false })
    const group = await open(withTarget(pool, { scaleFromZero: true }))
    try {
      const server = group.servers[0] as Running
      expect((await fetch(`${server.url}/ready`)).status).toBe(200)
      const { status, job_id } = await call(server, '/api/images', {
        body: { prompt: 'a fox' },
        headers: { prefer: 'respond-async' },
      })
      expect(status).toBe(202)
      expect(await call(server, `/api/jobs/${job_id}`)).toMatchObject({ state: 'queued' })
      await (pool.replicas[0] as PoolReplica).restart()
      await eventually(
        async () => expect(await call(server, `/api/jobs/${job_id}`)).toMatchObject({ state: 'succeeded' }),
        FOUND_MS,
      )
    } finally {
      await group.stop()
      await pool.stop()
    }
  })
}
