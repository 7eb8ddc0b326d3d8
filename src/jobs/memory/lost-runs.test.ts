/** Jobs in memory on a pool whose replicas the test brings and takes away. */
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createManualPool, type ManualPool } from '../../../test/fakes/manual-pool.ts'
import { eventually } from '../../../test/support/eventually.ts'
import type { Identity } from '../../auth/caller.ts'
import { AppError } from '../../errors.ts'
import type { ImageStore } from '../../images/image.ts'
import { createMemoryImages } from '../../images/memory.ts'
import { createMetrics } from '../../telemetry/metrics.ts'
import { hasEnded, type Job, type Jobs } from '../job.ts'
import { createMemoryJobs } from './jobs.ts'

const ANNA: Identity = { id: 'anna' }
const GONE = new AppError('runtime_unavailable', 'The connection broke.')

let manual: ManualPool
let jobs: Jobs
let images: ImageStore

function open(options: { cap?: number; scalesFromZero?: boolean } = {}): void {
  manual = createManualPool(options)
  images = createMemoryImages({ maxBytes: 2 ** 20 })
  jobs = createMemoryJobs({
    targets: [
      {
        ...{ name: 'gpu', kind: 'kserve', concurrency: 100, queue: 100, queuePerCaller: 100, defaults: {} },
        pool: manual.pool,
      },
    ],
    images,
    deadlineMs: 60_000,
    orphanGraceMs: 60_000,
    ttlSeconds: 60,
    maxReruns: 2,
    log: pino({ level: 'silent' }),
    metrics: createMetrics(),
  })
}

const submit = async (prompt = 'a dog', deadlineMs = 60_000) => {
  const waiter = await jobs.submit({ prompt, seed: 7 }, ANNA, { deadlineMs })
  await waiter.detach()
  return waiter.job.id
}
const get = (id: string) => jobs.get(id, ANNA)
const queue = () => jobs.queue()[0]!
const runsBegun = (count: number) => eventually(() => expect(manual.count()).toBe(count))
const ended = async (id: string): Promise<Job> => {
  for await (const job of jobs.watch(id, ANNA)) if (hasEnded(job)) return job
  throw new Error('it has no end')
}

beforeEach(() => open())
afterEach(async () => {
  await jobs.drain({ timeoutMs: 0 })
  await jobs.close()
})

describe('grants', () => {
  test('each job goes to a free replica, and no replica gets more than its slots', async () => {
    manual.set(['a', { id: 'b', slots: 2 }])
    for (const prompt of ['1', '2', '3', '4', '5']) await submit(prompt)
    await runsBegun(3)
    expect([manual.runsOf('a').length, manual.runsOf('b').length]).toEqual([1, 2])
    expect(queue()).toMatchObject({ concurrency: 3, running: 3, queued: 2 })
    manual.runsOf('a')[0]!.finish()
    await runsBegun(4)
    expect(manual.runsOf('a')).toHaveLength(2)
  })

  test('a replica that comes takes what waits, one that leaves draws to the end and gets nothing more', async () => {
    manual.set(['a'])
    const first = await submit('1')
    await submit('2')
    await runsBegun(1)
    manual.set(['b'])
    await runsBegun(2)
    await submit('3')
    manual.runsOf('a')[0]!.finish()
    expect((await ended(first)).state).toBe('succeeded')
    expect(queue()).toMatchObject({ concurrency: 1, running: 1, queued: 1 })
    expect(manual.runsOf('a')).toHaveLength(1)
  })

  test('the cap bounds all replicas together', async () => {
    open({ cap: 2 })
    manual.set(['a', 'b', 'c'])
    for (const prompt of ['1', '2', '3']) await submit(prompt)
    await runsBegun(2)
    expect(queue()).toMatchObject({ concurrency: 2, running: 2, queued: 1 })
  })
})

describe('a job whose replica lost it', () => {
  test('runs again on another one: the same request, one picture, progress from the beginning', async () => {
    manual.set(['a', 'b'])
    const id = await submit()
    await runsBegun(1)
    const [lost] = manual.runsOf('a')
    lost!.step(9, 10)
    expect((await get(id)).progress).toEqual({ step: 9, steps: 10 })
    lost!.fail(GONE)
    await runsBegun(2)
    const job = await get(id)
    expect(job).toMatchObject({ state: 'running' })
    expect(job.progress).toBe(undefined)
    const [again] = manual.runsOf('b')
    expect(again!.request).toEqual(lost!.request)
    again!.finish()
    expect(await ended(id)).toMatchObject({ state: 'succeeded', image: { id: job.imageId } })
    expect(manual.learned.map(({ id, outcome }) => [id, outcome.error?.code])).toEqual([
      ['a', 'runtime_unavailable'],
      ['b', undefined],
    ])
  })

  test('goes before everything that waits, first lost first', async () => {
    manual.set(['a', 'b'])
    await submit('first')
    await submit('second')
    await runsBegun(2)
    await submit('waits')
    manual.runsOf('b')[0]!.fail(GONE)
    await eventually(() => expect(manual.learned).toHaveLength(1))
    manual.runsOf('a')[0]!.fail(GONE)
    await eventually(() => expect(manual.learned).toHaveLength(2))
    expect(queue()).toMatchObject({ concurrency: 0, running: 2, queued: 1 })
    manual.set(['c'])
    for (const [index, prompt] of ['second', 'first', 'waits'].entries()) {
      await eventually(() => expect(manual.runsOf('c')).toHaveLength(index + 1))
      expect(manual.runsOf('c')[index]!.request.prompt).toBe(prompt)
      manual.runsOf('c')[index]!.finish()
    }
  })

  test('fails after so many runs, and says why', async () => {
    manual.set(['a', 'b', 'c', 'd'])
    const id = await submit()
    for (const replica of ['a', 'b', 'c']) {
      await eventually(() => expect(manual.runsOf(replica)).toHaveLength(1))
      manual.runsOf(replica)[0]!.fail(GONE)
    }
    expect(await ended(id)).toMatchObject({
      state: 'failed',
      error: { code: 'runtime_failed', message: expect.stringMatching(/3 times.*The connection broke/) },
    })
    expect(manual.runsOf('d')).toHaveLength(0)
    expect(queue()).toMatchObject({ running: 0, releasing: 0 })
  })

  test('is cancelled and expires while it waits for its next run, and holds no slot', async () => {
    manual.set(['a', 'b'])
    const cancelled = await submit('1')
    const late = await submit('2', 1500)
    await runsBegun(2)
    manual.runsOf('a')[0]!.fail(GONE)
    manual.runsOf('b')[0]!.fail(GONE)
    await eventually(() => expect(manual.learned).toHaveLength(2))
    expect(await jobs.cancel(cancelled, ANNA)).toMatchObject({ state: 'cancelled' })
    expect(await ended(late)).toMatchObject({ state: 'expired' })
    expect(queue()).toMatchObject({ running: 0, releasing: 0, queued: 0 })
    manual.set(['c'])
    const next = await submit('3')
    await eventually(() => expect(manual.runsOf('c')).toHaveLength(1))
    manual.runsOf('c')[0]!.finish()
    expect((await ended(next)).state).toBe('succeeded')
    expect(manual.count()).toBe(3)
  })

  test('what the request is to blame for does not run again', async () => {
    manual.set(['a', 'b'])
    const id = await submit()
    await runsBegun(1)
    manual.runsOf('a')[0]!.fail(new AppError('invalid_request', 'Too large.'))
    expect(await ended(id)).toMatchObject({ state: 'failed', error: { code: 'invalid_request' } })
    expect(manual.runsOf('b')).toHaveLength(0)
  })
})

describe('without a ready replica', () => {
  test('jobs wait, and are told that the runtime starts where it scales from zero', async () => {
    open({ scalesFromZero: true })
    const id = await submit()
    expect(await get(id)).toMatchObject({ state: 'queued', position: 1, starting: true })
    manual.set(['a'])
    await runsBegun(1)
    const job = await get(id)
    expect(job.state).toBe('running')
    expect(job).not.toHaveProperty('starting')
    manual.runsOf('a')[0]!.finish()
    expect((await ended(id)).state).toBe('succeeded')
  })

  test('a start that was timed gives an estimate of the next one', async () => {
    open({ scalesFromZero: true })
    for (const prompt of ['1', '2']) {
      const id = await submit(prompt)
      expect((await get(id)).expectedAt).toBe(undefined)
      manual.set(['a'])
      await eventually(() => expect(manual.runsOf('a')).toHaveLength(Number(prompt)))
      manual.runsOf('a')[Number(prompt) - 1]!.finish()
      await ended(id)
      if (prompt === '1') manual.set([])
    }
    manual.set([])
    const id = await submit('3')
    expect((await get(id)).expectedAt).toBeGreaterThan(0)
  })

  test('the deadline holds', async () => {
    open({ scalesFromZero: true })
    const id = await submit('1', 300)
    expect(await ended(id)).toMatchObject({ state: 'expired' })
  })

  test('new work is refused where the pool says so; a retry still finds its job', async () => {
    manual.set(['a'])
    const id = await submit()
    manual.pool.trouble = () => GONE
    await expect(submit('another')).rejects.toMatchObject({ code: 'runtime_unavailable' })
    expect(await submit()).toBe(id)
    expect(queue().refused.overloaded).toBe(1)
  })
})

test('replicas come, go and lose runs at random: every job ends with its picture, none runs twice at a time', async () => {
  const random = mulberry(20)
  const names = ['a', 'b', 'c', 'd']
  manual.set(names)
  const ids: string[] = []
  for (let round = 0; round < 150; round += 1) {
    if (ids.length < 40) ids.push(await submit(`picture ${ids.length}`))
    const runs = names.flatMap((name) => manual.runsOf(name).filter((run) => !settled.has(run)))
    const run = runs[Math.floor(random() * runs.length)]
    if (run) settled.add(run)
    // A draw of a lost run is rare, so that no job is lost three times.
    if (run && random() < 0.04) run.fail(GONE)
    else run?.finish()
    if (random() < 0.2) manual.set(names.filter(() => random() < 0.6))
    await new Promise((resolve) => setImmediate(resolve))
    const open = names.flatMap((name) => manual.runsOf(name).filter((one) => !settled.has(one)))
    expect(new Set(open.map(({ request }) => request.prompt)).size).toBe(open.length)
    for (const name of names)
      expect(manual.runsOf(name).filter((one) => !settled.has(one)).length).toBeLessThanOrEqual(1)
  }
  manual.set(names)
  await eventually(() => {
    for (const name of names)
      for (const run of manual.runsOf(name)) {
        settled.add(run)
        run.finish()
      }
    expect(queue().ended.succeeded).toBe(40)
  })
  expect(queue()).toMatchObject({ queued: 0, running: 0, releasing: 0, admitted: 40 })
})

const settled = new Set<unknown>()

/** A small generator of numbers from 0 to 1, the same every time. */
function mulberry(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
