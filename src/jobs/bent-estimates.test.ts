/** Callers who would bend the estimates, by malice or by what they usually ask for: nobody else is refused because of them. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type AdmissionView, isTest, judge } from './admission.ts'
import { unitsOf, type Work } from './estimate.ts'
import { aheadOf, createFigures, type Figures } from './figures.ts'

const square = (side: number, num_inference_steps: number) => ({
  width: side,
  height: side,
  num_inference_steps,
})
const USUAL = square(1024, 30)
const LARGE = square(2048, 50)
const DEADLINE_MS = 900_000

/** A runtime as many are: 200 ms for every picture, and 2.4 s for the work of a usual one. */
const msOf = (work: Work) => 200 + (2400 * (unitsOf(work) as number)) / (unitsOf(USUAL) as number)

const IDLE = { busy: 0, queued: 0 }
const BUSY = { busy: 1, queued: 0 }

let figures: Figures
beforeEach(() => {
  vi.useFakeTimers()
  figures = createFigures({ defaults: square(512, 25) })
})
afterEach(() => void vi.useRealTimers())

/** The verdict on a picture, and what admission does with it. `ahead`: pictures that go first. */
function ask(
  work: Work,
  options: { busy: number; queued: number; deadlineMs?: number; ahead?: readonly Work[] },
) {
  const { ahead = [], deadlineMs = DEADLINE_MS, ...load } = options
  const sum = { count: ahead.length, cost: ahead.reduce((cost, one) => cost + figures.costOf(one), 0) }
  const view: AdmissionView = {
    concurrency: 1,
    queueLimit: 100,
    queuedOfCaller: 0,
    queueLimitOfCaller: 50,
    deadlineMs,
    ...load,
    ...figures.forecast(work),
    aheadMs: aheadOf(figures.workModel(), sum),
  }
  const because = judge(view)
  if (because === undefined && isTest(view)) figures.tested(work)
  return because
}

function finish(work: Work, { caller = 'mallory', ms = msOf(work) } = {}): void {
  figures.observe({ work, caller, waitMs: 0, serviceMs: ms })
}

/** Tiny pictures of all sizes, as in a gallery of thumbnails. */
function finishTinyOnes(): void {
  for (let width = 64; width <= 120; width += 8)
    for (let height = 64; height <= 128; height += 8)
      finish({ width, height, num_inference_steps: 1 }, { ms: 200 + ((width * height) % 7) })
}

describe('after 72 tiny pictures', () => {
  test.each([IDLE, BUSY])('nobody is refused a large one: %o', (load) => {
    finishTinyOnes()
    for (const work of [USUAL, LARGE, square(512, 20)]) {
      expect(ask(work, { ...load, deadlineMs: 60_000 })).toBeUndefined()
      expect(ask(work, load)).toBeUndefined()
    }
  })

  test('nobody is refused because large ones go first', () => {
    finishTinyOnes()
    expect(
      ask(square(64, 1), { busy: 1, queued: 5, deadlineMs: 20_000, ahead: Array(5).fill(USUAL) }),
    ).toBeUndefined()
  })

  test('what was learned of large ones is as it was', () => {
    for (const work of [USUAL, LARGE]) for (const caller of ['alice', 'bob']) finish(work, { caller })
    const before = [USUAL, LARGE, square(1024, 40)].map((work) => figures.estimate(work) as number)
    finishTinyOnes()
    const after = [USUAL, LARGE, square(1024, 40)].map((work) => figures.estimate(work) as number)
    for (const [index, ms] of after.entries()) expect(ms / (before[index] as number)).toBeCloseTo(1, 1)
    expect(ask(LARGE, { ...IDLE, deadlineMs: 5000 })).toBe('tooLong')
  })

  test('and a few usual ones, the queue is predicted from both', () => {
    finishTinyOnes()
    for (const caller of ['alice', 'bob', 'bob']) finish(USUAL, { caller })
    const ahead = [...Array(20).fill(square(64, 1)), ...Array(2).fill(USUAL)]
    const sum = { count: ahead.length, cost: ahead.reduce((cost, one) => cost + figures.costOf(one), 0) }
    const truth = ahead.reduce((ms, one) => ms + msOf(one), 0)
    expect((aheadOf(figures.workModel(), sum) as number) / truth).toBeCloseTo(1, 1)
  })
})

describe('an estimate that is wrong', () => {
  const SLOW_MS = 90_000
  const deadlineMs = 60_000
  beforeEach(() => {
    // The GPU was hot, or shared.
    for (const caller of ['bob', 'carol']) finish(USUAL, { caller, ms: SLOW_MS })
  })

  test.each([IDLE, BUSY])('heals while it refuses, though a tiny picture finishes every 40 s: %o', (load) => {
    expect(ask(USUAL, { ...load, deadlineMs })).toBe('tooLong')
    const letThrough: number[] = []
    for (let second = 0; second < 3000; second += 40) {
      finish(square(64, 1))
      if (ask(USUAL, { ...load, deadlineMs }) === undefined) {
        letThrough.push(second)
        finish(USUAL)
      }
      vi.advanceTimersByTime(40_000)
    }
    // After ten times as long as it is said to take, one is let through; then the median is right.
    expect(letThrough[0]).toBeGreaterThan((10 * SLOW_MS) / 1000)
    expect(letThrough[0]).toBeLessThan((11 * SLOW_MS) / 1000)
    expect(ask(USUAL, { ...load, deadlineMs: 10_000 })).toBeUndefined()
  })

  test('is tested by one picture at a time, and seldom where it is right', () => {
    let letThrough = 0
    for (let second = 0; second < 9000; second += 10) {
      // It never finishes within the deadline, so nothing is learned.
      if (ask(USUAL, { ...BUSY, deadlineMs }) === undefined) letThrough += 1
      vi.advanceTimersByTime(10_000)
    }
    expect(letThrough).toBeGreaterThan(0)
    expect(letThrough * SLOW_MS).toBeLessThanOrEqual(9_000_000 / 10)
  })
})

describe('a size that was not measured', () => {
  beforeEach(() => {
    for (const caller of ['bob', 'carol']) finish(USUAL, { caller })
  })

  test('is never refused by an idle target for its own length', () => {
    for (let times = 0; times < 3; times += 1)
      expect(ask(square(1024, 60), { ...IDLE, deadlineMs: 100 })).toBeUndefined()
  })

  test('is refused by a busy one for its length, but for a test now and then', () => {
    const verdicts = [1, 2, 3].map(() => ask(square(1024, 60), { ...BUSY, deadlineMs: 100 }))
    expect(verdicts).toEqual([undefined, 'tooLong', 'tooLong'])
  })
})
