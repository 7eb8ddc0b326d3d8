import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createEstimator, type Estimator, unitsOf, type Work } from './estimate.ts'

const SMALL = { width: 512, height: 512, num_inference_steps: 10 }
const LARGE = { width: 1024, height: 1024, num_inference_steps: 20 }
const square = (side: number, num_inference_steps: number) => ({
  width: side,
  height: side,
  num_inference_steps,
})

function teach(estimator: Estimator, work: Work, ...samples: number[]): Estimator {
  for (const ms of samples) estimator.observe({ work, caller: 'alice', ms })
  return estimator
}
const learned = (...samples: number[]) => teach(createEstimator(), SMALL, ...samples)
const msOf = (estimator: Estimator, work: Work) => estimator.predict(work)?.ms

describe('the estimate', () => {
  test('is unknown until two generations finished: the first may have been a cold start', () => {
    expect(msOf(learned(), SMALL)).toBeUndefined()
    expect(msOf(learned(60_000), SMALL)).toBeUndefined()
    expect(msOf(learned(60_000, 500), SMALL)).toBe(500)
  })

  test('is not moved by outliers', () => {
    expect(msOf(learned(500, 510, 490, 30_000, 505, 1, 500), SMALL)).toBe(500)
  })

  test('follows a lasting change within a few samples', () => {
    expect(msOf(learned(...Array(50).fill(500), ...Array(5).fill(1000)), SMALL)).toBe(1000)
  })

  test('scales to sizes not seen before by steps x pixels while one size is known', () => {
    expect(learned(500, 500).predict(LARGE)).toMatchObject({ ms: 4000, measured: false })
  })

  test('scales so whatever the samples of that size are', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 200, max: 250, noNaN: true }),
        fc.double({ min: 200, max: 250, noNaN: true }),
        (a, b) => {
          expect(msOf(learned(a, b), LARGE)).toBeCloseTo(8 * Math.min(a, b), 6)
        },
      ),
    )
  })

  test('knows what every picture costs, once there are two sizes', () => {
    // 200 ms, and 100 ms for each step of 512x512.
    const estimator = teach(learned(1200, 1200), square(512, 40), 4200, 4200)
    expect(msOf(estimator, square(512, 20))).toBeCloseTo(2200)
    expect(msOf(estimator, square(256, 10))).toBeCloseTo(450)
  })

  test('prefers what was seen of the very size', () => {
    const estimator = teach(learned(500, 500), LARGE, 3000, 3000)
    expect(estimator.predict(LARGE)).toMatchObject({ ms: 3000, measured: true })
  })

  test('of two samples, one of them wrong, believes the one that fits the other sizes', () => {
    const estimator = teach(teach(learned(500, 500, 500), square(512, 20), 1000, 1000), LARGE, 400, 4000)
    expect(msOf(estimator, LARGE)).toBe(4000)
  })

  test('is unknown where nothing similar was seen', () => {
    const estimator = learned(500, 500, 500)
    expect([square(512, 100), square(512, 1)].map((work) => msOf(estimator, work))).toEqual([5000, 50])
    expect([square(1024, 26), square(256, 3)].map((work) => msOf(estimator, work))).toEqual([
      undefined,
      undefined,
    ])
  })

  test('without sizes takes what others took', () => {
    expect(msOf(learned(500, 500), {})).toBe(500)
    expect(msOf(teach(createEstimator(), {}, 700, 700), SMALL)).toBe(700)
  })
})

describe('what one caller teaches', () => {
  test('does not push out what was learned of other magnitudes', () => {
    const estimator = teach(createEstimator(), LARGE, 2000, 2000)
    for (let width = 64; width <= 2048; width += 8)
      for (let height = 64; height <= 128; height += 8)
        estimator.observe({ work: { width, height, num_inference_steps: 1 }, caller: 'mallory', ms: 200 })
    expect(estimator.predict(LARGE)).toMatchObject({ ms: 2000, measured: true })
  })

  test('does not push out what others taught of the same magnitude', () => {
    const estimator = teach(createEstimator(), LARGE, 2000, 2000)
    for (let more = 1; more <= 100; more += 1)
      estimator.observe({
        work: { ...LARGE, width: LARGE.width + 8 * (more % 60) },
        caller: 'mallory',
        ms: 9000,
      })
    expect(estimator.predict(LARGE)).toMatchObject({ measured: true })
    expect(msOf(estimator, LARGE)).toBe(2000)
  })

  test('is at most half of a magnitude where others have samples', () => {
    const estimator = teach(createEstimator(), LARGE, 2000)
    const works = Array.from({ length: 50 }, (_, index) => ({
      ...LARGE,
      width: LARGE.width + 8 * (index + 1),
    }))
    for (const work of works)
      for (const ms of [9000, 9000]) estimator.observe({ work, caller: 'mallory', ms })
    expect(works.filter((work) => estimator.predict(work)?.measured)).toEqual(works.slice(-6))
  })

  test('is bounded, however many sizes and callers there are', () => {
    const estimator = createEstimator()
    const works = Array.from({ length: 1000 }, (_, index) => ({ ...SMALL, width: 512 + index / 10 }))
    for (const [index, work] of works.entries())
      for (const caller of ['alice', `${index}`]) estimator.observe({ work, caller, ms: 500 })
    expect(works.filter((work) => estimator.predict(work)?.measured).length).toBeLessThanOrEqual(12)
  })
})

/** Common sizes and steps, in any order. */
const works = fc.uniqueArray(
  fc.record({
    width: fc.constantFrom(256, 384, 512, 640, 768, 1024, 1536, 2048),
    height: fc.constantFrom(256, 384, 512, 640, 768, 1024, 1536, 2048),
    num_inference_steps: fc.constantFrom(4, 8, 15, 20, 25, 30, 40, 50),
  }),
  { minLength: 60, maxLength: 100, selector: (work) => JSON.stringify(work) },
)

test('within what was seen a prediction is at most 25 % off, though every fifth sample is wrong', () => {
  fc.assert(
    fc.property(
      works,
      fc.constantFrom(0, 50, 200, 2000),
      fc.constantFrom(1e-4, 1e-3, 1e-2),
      fc.infiniteStream(fc.double({ min: 0.95, max: 1.05, noNaN: true })),
      fc.infiniteStream(fc.constantFrom(0.1, 3, 10)),
      (all, fixedMs, unitMs, noise, wrong) => {
        const truth = (work: Work) => fixedMs + (unitMs * (unitsOf(work) as number)) / 100
        const [seen, unseen] = [all.slice(10), all.slice(0, 10)]
        const estimator = createEstimator()
        for (const [index, work] of seen.entries()) {
          const factor =
            (noise.next().value as number) * (index % 5 === 4 ? (wrong.next().value as number) : 1)
          estimator.observe({ work, caller: `${index % 7}`, ms: truth(work) * factor })
        }
        const units = seen.map((work) => unitsOf(work) as number)
        for (const work of unseen) {
          const own = unitsOf(work) as number
          if (own < Math.min(...units) || own > Math.max(...units)) continue
          const { ms } = estimator.predict(work)!
          expect(Math.abs(ms / truth(work) - 1), `${JSON.stringify(work)}: ${ms}`).toBeLessThan(0.25)
        }
      },
    ),
    { numRuns: 150 },
  )
})
