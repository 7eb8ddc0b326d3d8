import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createStalls } from './stall.ts'

const WORK = { width: 512, height: 512, num_inference_steps: 25 }
let stalls: ReturnType<typeof createStalls>
let stuck: number[]

beforeEach(() => {
  vi.useFakeTimers()
  stalls = createStalls()
  stuck = []
})
afterEach(() => vi.useRealTimers())

const pass = (ms: number) => vi.advanceTimersByTime(ms)
const watch = (options: { estimateMs?: number; work?: typeof WORK } = {}) =>
  stalls.watch({
    work: options.work ?? WORK,
    estimateMs: options.estimateMs,
    onStuck: (silentMs) => stuck.push(silentMs),
  })

/** A run of steps, each of which takes so long. */
function draw(stepMs: number, { steps = 25, firstMs = stepMs } = {}) {
  const run = watch()
  for (let step = 1; step <= steps; step += 1) {
    pass(step === 1 ? firstMs : stepMs)
    run.stepped({ step, steps: 25 })
  }
  return run
}

test('a run that makes no step for ten times a step hangs, though not within half a minute', () => {
  draw(100).end(true)
  draw(100, { steps: 5 })
  pass(29_000)
  expect(stuck).toEqual([])
  pass(2000)
  expect(stuck).toHaveLength(1)
  pass(600_000)
  expect(stuck).toHaveLength(1)
})

test('slow steps are no hang: what they take is learned', () => {
  draw(10_000).end(true)
  const run = watch()
  run.stepped({ step: 1, steps: 25 })
  pass(95_000)
  expect(stuck).toEqual([])
  pass(6000)
  expect(stuck).toHaveLength(1)
})

test('a size whose steps are slower than all before is measured by its own', () => {
  draw(100).end(true)
  const run = watch({ work: { ...WORK, width: 2048, height: 2048 } })
  for (const step of [1, 2, 3]) {
    pass(50_000)
    run.stepped({ step, steps: 25 })
  }
  pass(400_000)
  expect(stuck).toEqual([])
  pass(200_000)
  expect(stuck).toHaveLength(1)
})

test('the first step may take longer: models warm up', () => {
  draw(100).end(true)
  watch()
  pass(119_000)
  expect(stuck).toEqual([])
  pass(2000)
  expect(stuck).toHaveLength(1)
})

test('a picture without steps hangs after ten times what it takes', () => {
  watch().end(true)
  watch({ estimateMs: 20_000 })
  pass(199_000)
  expect(stuck).toEqual([])
  pass(2000)
  expect(stuck).toHaveLength(1)
})

test('while nothing is known nothing hangs', () => {
  watch()
  pass(3_600_000)
  expect(stuck).toEqual([])
})

test('once others taught what steps take, a run that began before is measured too', () => {
  watch()
  pass(60_000)
  draw(100).end(true)
  pass(181_000)
  expect(stuck).toHaveLength(1)
})

test('a run that is over is not watched', () => {
  draw(100).end(true)
  pass(3_600_000)
  expect(stuck).toEqual([])
})
