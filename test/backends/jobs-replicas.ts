/** What every job backend promises of targets with many replicas, as a suite to run against each of them. */
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { AppError } from '../../src/errors.ts'
import type { ImageStore } from '../../src/images/image.ts'
import { createMemoryImages } from '../../src/images/memory.ts'
import type { Job, Jobs, SubmitOptions, TargetQueue, Waiter } from '../../src/jobs/job.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import {
  createReplicaWorld,
  type PlacedRun,
  type Seen,
  unavailable,
  type WorldPool,
} from '../fakes/replica-world.ts'
import { eventually } from '../support/eventually.ts'
import { ALICE, BOB, type MakeJobs } from './jobs/suite.ts'

/** How often the backends under test begin a job again. */
export const MAX_RERUNS = 2
/** Longer than any test, however slow the machine. */
const LONG_MS = 600_000

/** Runs the suite against the backend that `make` makes, with `MAX_RERUNS`. */
export function replicasContract(name: string, make: MakeJobs): void {
  describe(name, () => {
    for (const group of [placing, changing, rerunning, waitingAgain]) group(make)
  })
}

/** A new backend before each test, with one target. Its pictures are told by their seeds. */
function useReplicas(make: MakeJobs) {
  let world: ReturnType<typeof createReplicaWorld>
  let pool: WorldPool
  let images: ImageStore
  let jobs: Jobs | undefined
  let close: (() => Promise<void>) | undefined
  beforeEach(() => {
    world = createReplicaWorld()
    images = createMemoryImages({ maxBytes: 2 ** 20 })
  })
  afterEach(() => close?.())

  const it = {
    get world() {
      return world
    },
    get jobs() {
      return jobs as Jobs
    },
    get images() {
      return images
    },
    /** A backend whose target has these replicas. */
    async open(seen: Seen, { cap }: { cap?: number } = {}): Promise<WorldPool> {
      pool = world.pool({ seen, cap })
      const made = await make({
        targets: [
          {
            ...{ name: 'gpu', kind: 'simulated', concurrency: cap ?? 1000, queue: 100, queuePerCaller: 100 },
            ...{ defaults: { width: 512, height: 512, num_inference_steps: 25 }, pool },
          },
        ],
        images,
        deadlineMs: LONG_MS,
        orphanGraceMs: LONG_MS,
        ttlSeconds: 60,
        log: pino({ level: 'silent' }),
        metrics: createMetrics(),
      })
      jobs = made.jobs
      close = made.close
      return pool
    },
    submit: (seed: number, { caller = ALICE, ...options }: SubmitOptions & { caller?: typeof ALICE } = {}) =>
      it.jobs.submit({ prompt: 'a fox', seed }, caller, options),
    lane: () => it.jobs.queue()[0] as TargetQueue,
    /** The run of this seed, the first one or a later one, once it is there. */
    async run(seed: number, nth = 0): Promise<PlacedRun> {
      const all = () => world.runs.filter(({ request }) => request.seed === seed)
      await eventually(() => expect(all().length).toBeGreaterThan(nth))
      return all()[nth] as PlacedRun
    },
    /** Submits one after the other, each once the one before runs; where each of them runs. */
    async place(...seeds: number[]): Promise<string[]> {
      const places: string[] = []
      for (const seed of seeds) {
        await it.submit(seed)
        places.push((await it.run(seed)).replica)
      }
      return places
    },
    /** Finishes the run of this seed; resolves when its slot is free again. */
    async finish(seed: number, nth = 0): Promise<void> {
      const run = await it.run(seed, nth)
      const { ended } = it.lane()
      run.finish()
      await eventually(() => {
        const now = it.lane()
        expect(now.ended.succeeded).toBeGreaterThan(ended.succeeded)
        expect(now.releasing).toBe(0)
      })
    },
    async end(waiter: Waiter): Promise<Job> {
      let last = waiter.job
      for await (const job of waiter.watch()) last = job
      return last
    },
  }
  return it
}

function placing(make: MakeJobs): void {
  describe('a job goes to', () => {
    const it = useReplicas(make)

    test('a replica of its own, as long as there is one', async () => {
      await it.open({ a: 1, b: 1, c: 1 })
      expect(await it.place(1, 2, 3)).toEqual(['a', 'b', 'c'])
      await it.submit(4)
      await eventually(() => expect(it.lane()).toMatchObject({ concurrency: 3, running: 3, queued: 1 }))
      expect(it.world.runs).toHaveLength(3)
    })

    test('the least busy one for its slots', async () => {
      await it.open({ big: 4, small: 2 })
      // Before each of them: 0/4 0/2, 1/4 0/2, 1/4 1/2, 2/4 1/2 (big came first), 3/4 1/2.
      expect(await it.place(1, 2, 3, 4, 5)).toEqual(['big', 'small', 'big', 'big', 'small'])
      await it.finish(2)
      await it.finish(3)
      // 2/4 1/2: small is idle for longer.
      expect(await it.place(6)).toEqual(['small'])
    })

    test('the one that is idle for longest, among equals', async () => {
      await it.open({ a: 1, b: 1, c: 1 })
      await it.place(1, 2, 3)
      for (const seed of [2, 1, 3]) await it.finish(seed)
      expect(await it.place(4, 5, 6)).toEqual(['b', 'a', 'c'])
    })

    test('none beyond the cap of all together', async () => {
      await it.open({ a: 2, b: 2 }, { cap: 3 })
      for (const seed of [1, 2, 3, 4]) await it.submit(seed)
      await eventually(() => expect(it.lane()).toMatchObject({ concurrency: 3, running: 3, queued: 1 }))
      await eventually(() => expect(it.world.runs).toHaveLength(3))
      await it.finish(1)
      await it.run(4)
    })

    test('none that still draws a picture that nobody wants', async () => {
      await it.open({ a: 1 })
      const waiter = await it.submit(1)
      const { signal } = await it.run(1)
      const next = await it.submit(2)
      await it.jobs.cancel(waiter.job.id, ALICE)
      await eventually(() => expect(signal.aborted).toBe(true))
      await it.run(2)
      expect(it.world.peak('a')).toBe(1)
      await it.finish(2)
      expect((await it.end(next)).state).toBe('succeeded')
    })
  })
}

function changing(make: MakeJobs): void {
  describe('a pool that changes', () => {
    const it = useReplicas(make)

    test('from none to one: what waits begins', async () => {
      const pool = await it.open({})
      const waiter = await it.submit(1)
      await eventually(() => expect(it.lane()).toMatchObject({ concurrency: 0, running: 0, queued: 1 }))
      expect(await it.jobs.get(waiter.job.id, ALICE)).toMatchObject({
        state: 'queued',
        position: 1,
        starting: true,
      })
      pool.set({ a: 1 })
      await it.finish(1)
      expect((await it.end(waiter)).state).toBe('succeeded')
      pool.set({})
      await eventually(() => expect(it.lane()).toMatchObject({ concurrency: 0 }))
    })

    test('grows: the new ones draw', async () => {
      const pool = await it.open({ a: 1 })
      await it.place(1)
      for (const seed of [2, 3, 4]) await it.submit(seed)
      pool.set({ a: 1, b: 1, c: 1 })
      await eventually(() => expect(it.lane()).toMatchObject({ concurrency: 3, running: 3, queued: 1 }))
      expect([(await it.run(2)).replica, (await it.run(3)).replica].sort()).toEqual(['b', 'c'])
    })

    test('shrinks: what runs goes on, and nothing new goes there', async () => {
      const pool = await it.open({ a: 1, b: 1 })
      const waiter = await it.submit(1)
      expect((await it.run(1)).replica).toBe('a')
      await it.place(2)
      pool.set({ b: 1 })
      await it.submit(3)
      await eventually(() => expect(it.lane()).toMatchObject({ concurrency: 1, running: 2, queued: 1 }))
      await it.finish(1)
      expect((await it.end(waiter)).state).toBe('succeeded')
      expect(it.lane()).toMatchObject({ queued: 1 })
      await it.finish(2)
      expect((await it.run(3)).replica).toBe('b')
    })

    test('takes one back: what still runs there counts', async () => {
      const pool = await it.open({ a: 2 })
      await it.place(1, 2)
      pool.set({})
      await eventually(() => expect(it.lane()).toMatchObject({ concurrency: 0 }))
      await it.submit(3)
      pool.set({ a: 2 })
      await eventually(() => expect(it.lane()).toMatchObject({ concurrency: 2, running: 2, queued: 1 }))
      await it.finish(1)
      await it.run(3)
      expect(it.world.peak('a')).toBe(2)
    })
  })
}

function rerunning(make: MakeJobs): void {
  describe('a picture that its replica did not draw', () => {
    const it = useReplicas(make)

    test('is drawn by another one: the same picture, once', async () => {
      await it.open({ a: 1, b: 1 })
      const waiter = await it.submit(7)
      const seen: string[] = []
      const watching = (async () => {
        for await (const { state } of waiter.watch()) seen.push(state)
      })()
      const first = await it.run(7)
      first.step(20, 25)
      await eventually(async () =>
        expect(await it.jobs.get(waiter.job.id, ALICE)).toMatchObject({ progress: { step: 20 } }),
      )
      first.fail(unavailable())
      const second = await it.run(7, 1)
      expect([first.replica, second.replica]).toEqual(['a', 'b'])
      expect(second.request).toEqual(first.request)
      // Progress begins anew.
      expect((await it.jobs.get(waiter.job.id, ALICE)).progress).toBeUndefined()
      second.step(1, 25)
      await eventually(async () =>
        expect(await it.jobs.get(waiter.job.id, ALICE)).toMatchObject({ progress: { step: 1 } }),
      )
      second.finish()
      await watching
      expect(new Set(seen.slice(1))).toEqual(new Set(['running', 'succeeded']))
      expect((await it.images.get(waiter.job.imageId))?.record).toMatchObject({ seed: 7 })
      await eventually(() =>
        expect(it.lane()).toMatchObject({ running: 0, releasing: 0, admitted: 1, ended: { succeeded: 1 } }),
      )
    })

    test('goes to the same one, when it works again and there is no other', async () => {
      const pool = await it.open({ a: 1 })
      const waiter = await it.submit(1)
      ;(await it.run(1)).fail(unavailable())
      await eventually(() => expect(it.lane()).toMatchObject({ concurrency: 0, running: 1 }))
      pool.set({ a: 1 })
      expect((await it.run(1, 1)).replica).toBe('a')
      await it.finish(1, 1)
      expect((await it.end(waiter)).state).toBe('succeeded')
    })

    test('goes before everything that waits, first in, first out', async () => {
      const pool = await it.open({ a: 1, b: 1 })
      await it.place(1, 2)
      await it.submit(3, { caller: BOB })
      for (const seed of [2, 1]) {
        ;(await it.run(seed)).fail(unavailable())
        await eventually(() =>
          expect(it.world.allOpen().map(({ request }) => request.seed)).not.toContain(seed),
        )
        await eventually(() => expect(it.lane()).toMatchObject({ concurrency: seed === 2 ? 1 : 0 }))
      }
      // Both replicas are ejected, and the last slot was given to nobody meanwhile.
      expect(it.lane()).toMatchObject({ running: 2, queued: 1 })
      pool.set({ c: 1 })
      await it.run(2, 1)
      await it.finish(2, 1)
      await it.run(1, 1)
      expect(it.lane()).toMatchObject({ queued: 1 })
      await it.finish(1, 1)
      await it.run(3)
    })

    test('fails when it was begun too often, with the last reason', async () => {
      const pool = await it.open({ a: 1, b: 1 })
      const waiter = await it.submit(1)
      for (let run = 0; run <= MAX_RERUNS; run += 1) {
        const { replica, fail } = await it.run(1, run)
        fail(unavailable())
        await eventually(() => expect(it.world.open(replica)).toEqual([]))
        pool.set({ a: 1, b: 1 })
      }
      expect(await it.end(waiter)).toMatchObject({
        state: 'failed',
        error: { code: 'runtime_failed', message: expect.stringContaining('The connection was refused.') },
      })
      await eventually(() =>
        expect(it.lane()).toMatchObject({ running: 0, releasing: 0, ended: { failed: 1 } }),
      )
      await it.place(2)
      expect(it.world.runs).toHaveLength(MAX_RERUNS + 2)
    })

    test('is not drawn again where that would not help', async () => {
      await it.open({ a: 1, b: 1 })
      const waiter = await it.submit(1)
      ;(await it.run(1)).fail(new AppError('invalid_request', 'No such size.'))
      expect(await it.end(waiter)).toMatchObject({ state: 'failed', error: { code: 'invalid_request' } })
      expect(it.world.runs).toHaveLength(1)
    })
  })
}

function waitingAgain(make: MakeJobs): void {
  describe('a job that waits for another replica', () => {
    const it = useReplicas(make)
    /** A job whose only replica failed and was ejected. */
    async function waiting(options: SubmitOptions = {}) {
      const pool = await it.open({ a: 1 })
      const waiter = await it.submit(1, options)
      ;(await it.run(1)).fail(unavailable())
      await eventually(() => expect(it.lane()).toMatchObject({ concurrency: 0, running: 1 }))
      return { pool, waiter }
    }

    test('is still running for its caller', async () => {
      const { waiter } = await waiting()
      expect((await it.jobs.get(waiter.job.id, ALICE)).state).toBe('running')
    })

    test.each(['cancelled', 'expired'])('and is %s leaves nothing behind', async (state) => {
      const { pool, waiter } = await waiting(state === 'expired' ? { deadlineMs: 1500 } : {})
      if (state === 'cancelled') await it.jobs.cancel(waiter.job.id, ALICE)
      expect((await it.end(waiter)).state).toBe(state)
      await eventually(() => expect(it.lane()).toMatchObject({ running: 0, releasing: 0 }))
      pool.set({ b: 1 })
      await it.place(2)
      expect(it.world.runs).toHaveLength(2)
    })

    test('is finished by a server that drains', async () => {
      const { pool, waiter } = await waiting()
      const drained = it.jobs.drain({ timeoutMs: LONG_MS })
      pool.set({ b: 1 })
      await it.finish(1, 1)
      await drained
      expect(await it.jobs.get(waiter.job.id, ALICE)).toMatchObject({ state: 'succeeded' })
    })
  })
}
