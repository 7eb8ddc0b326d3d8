import { describe, expect, test } from 'vitest'
import { createEstimator } from './estimate.ts'

const SMALL = { width: 512, height: 512, num_inference_steps: 10 }
const LARGE = { width: 1024, height: 1024, num_inference_steps: 20 }

function learned(...samples: number[]) {
  const estimator = createEstimator()
  for (const ms of samples) estimator.observe(SMALL, ms)
  return estimator
}

describe('the estimate', () => {
  test('is unknown until two generations finished: the first may have been a cold start', () => {
    expect(learned().estimate(SMALL)).toBeUndefined()
    expect(learned(60_000).estimate(SMALL)).toBeUndefined()
    expect(learned(60_000, 500).estimate(SMALL)).toBe(500)
  })

  test('is not moved by outliers', () => {
    expect(learned(500, 510, 490, 30_000, 505, 1, 500).estimate(SMALL)).toBe(500)
  })

  test('follows a lasting change within a few samples', () => {
    expect(learned(...Array(50).fill(500), ...Array(5).fill(1000)).estimate(SMALL)).toBe(1000)
  })

  test('scales to sizes not seen before by steps x pixels', () => {
    expect(learned(500, 500).estimate(LARGE)).toBe(4000)
  })

  test('prefers what was seen of the very size', () => {
    const estimator = learned(500, 500)
    estimator.observe(LARGE, 3000)
    estimator.observe(LARGE, 3000)
    expect(estimator.estimate(LARGE)).toBe(3000)
  })

  test('without sizes takes what others took', () => {
    expect(learned(500, 500).estimate({})).toBe(500)
  })

  test('remembers a bounded number of sizes', () => {
    const estimator = createEstimator()
    for (let width = 64; width <= 64 + 8 * 1000; width += 8)
      for (const ms of [width, width]) estimator.observe({ width, height: 64, num_inference_steps: 1 }, ms)
    expect(estimator.estimate({ width: 64 + 8 * 1000, height: 64, num_inference_steps: 1 })).toBe(8064)
  })
})
