/** Those who watch waiting jobs: when they hear of a new place, and what they cost everybody else. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { createManualRuntime } from '../../../test/fakes/manual-runtime.ts'
import { manualJobs } from '../../../test/support/manual-jobs.ts'
import { createPlainPool } from '../../runtimes/pool/pool.ts'
import type { Job, Jobs } from '../job.ts'
import { createMemoryJobs } from './jobs.ts'
import { createLane } from './lane.ts'

const ALICE = { id: 'alice' }
/** What is told at once, and the pause before the next ones; see outlook.ts. */
const SLICE = 100
const PAUSE_MS = 100

let runtime: ReturnType<typeof createManualRuntime>
let jobs: Jobs

beforeEach(() => {
  vi.useFakeTimers()
  const manual = manualJobs({ slots: 1, queue: 1000 })
  runtime = manual.runtime
  jobs = createMemoryJobs(manual.options)
})
afterEach(() => void vi.useRealTimers())

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

/** Submits and watches; returns all that the watcher hears. */
async function watch(prompt: string): Promise<Job[]> {
  const waiter = await jobs.submit({ prompt }, ALICE)
  const heard: Job[] = []
  void (async () => {
    for await (const job of waiter.watch()) heard.push(job)
  })()
  await pass(0)
  return heard
}

async function endRun(index: number): Promise<void> {
  runtime.runs[index]?.finish()
  await pass(0)
}

test('a watcher knows its place at once, hears of a new one at most once a second, and of its start at once', async () => {
  const [running, next, last] = [await watch('a'), await watch('b'), await watch('c')]
  expect([running, next, last].map((heard) => heard.map(({ position }) => position))).toEqual([
    [undefined],
    [1],
    [2],
  ])
  await endRun(0)
  expect(next.at(-1)?.state).toBe('running')
  await pass(1000)
  expect(last.map(({ position }) => position)).toEqual([2, 1])
  await endRun(1)
  expect(last.at(-1)?.state).toBe('running')
  expect(last.at(-1)?.position).toBeUndefined()
})

test('an end wakes nobody whose job merely moves up; they are told in slices', async () => {
  const watchers = [await watch('0')]
  for (let index = 1; index <= 3 * SLICE; index += 1) watchers.push(await watch(`${index}`))
  await pass(5000)
  const heard = () => watchers.reduce((sum, snapshots) => sum + snapshots.length, 0)
  const before = heard()
  await endRun(0)
  // The end itself, the start of the next job, and the first slice.
  expect(heard() - before).toBeLessThanOrEqual(2 + SLICE)
  await pass(PAUSE_MS)
  expect(heard() - before).toBeLessThanOrEqual(2 + 2 * SLICE)
  await pass(3 * PAUSE_MS)
  expect(watchers.slice(2).map((snapshots) => snapshots.at(-1)?.position)).toEqual(
    watchers.slice(2).map((_, index) => index + 1),
  )
})

test('ten ends within a second are one round for those who wait', async () => {
  for (let index = 0; index <= 10; index += 1) await watch(`${index}`)
  const last = await watch('last')
  await pass(5000)
  for (let index = 0; index < 10; index += 1) await endRun(index)
  await pass(990)
  expect(last.map(({ position }) => position)).toEqual([11, 10])
  await pass(20)
  expect(last.map(({ position }) => position)).toEqual([11, 10, 1])
})

test('a place that is asked for is the place now', async () => {
  const waiters = []
  for (const prompt of ['a', 'b', 'c', 'd']) waiters.push(await jobs.submit({ prompt }, ALICE))
  await jobs.cancel(waiters[1]?.job.id as string, ALICE)
  expect(waiters.slice(2).map(({ job }) => job.position)).toEqual([1, 2])
  expect(await jobs.get(waiters[3]?.job.id as string, ALICE)).toMatchObject({ position: 2 })
})

test('what happens to one job looks at no other: the same number of looks for any length of the queue', () => {
  const looksAt = (queued: number) => {
    let looks = 0
    const lane = createLane({
      name: 'gpu',
      kind: 'simulated',
      concurrency: 1,
      queue: 1e6,
      queuePerCaller: 1e6,
      defaults: {},
      pool: createPlainPool(runtime, { slots: 1 }),
    })
    const jobOf = (owner: string, steps: number) => ({
      get job() {
        looks += 1
        return { owner }
      },
      get work() {
        looks += 1
        return { width: 512, height: 512, num_inference_steps: steps }
      },
    })
    for (const serviceMs of [1000, 1000])
      lane.figures.observe({
        work: { width: 512, height: 512, num_inference_steps: 25 },
        caller: 'a',
        waitMs: 0,
        serviceMs,
      })
    const waiting = Array.from({ length: queued }, (_, index) => jobOf(`${index % 50}`, 1 + (index % 190)))
    for (const job of waiting) lane.push(job)
    looks = 0
    lane.predict({ caller: '7', work: jobOf('7', 25).work })
    lane.push(jobOf('7', 25))
    lane.placeOf(waiting[queued >> 1]!)
    lane.queued.remove(waiting[queued >> 1]!)
    const first = lane.queued.shift()!
    lane.begin(first)
    lane.end(first)
    return looks
  }
  expect(looksAt(5000)).toBe(looksAt(50))
})
