import { describe, expect, test } from 'vitest'
import { createSimulatedRuntime, simulatedOptions } from './simulated.ts'

const REQUEST = { prompt: 'a fox', width: 64, height: 64, num_inference_steps: 2, seed: 7 }
const never = new AbortController().signal
const simulated = (options: object) =>
  createSimulatedRuntime(simulatedOptions.parse({ msPerStep: 0, ...options }))

describe('a simulated runtime', () => {
  test('fails every n-th generation when told to', async () => {
    const runtime = simulated({ failEvery: 2 })
    await runtime.generate(REQUEST, { signal: never })
    await expect(runtime.generate(REQUEST, { signal: never })).rejects.toMatchObject({
      code: 'runtime_failed',
    })
    await runtime.generate(REQUEST, { signal: never })
  })

  test('stalls every n-th generation until it is given up', async () => {
    const abort = new AbortController()
    const call = simulated({ stallEvery: 1 }).generate(REQUEST, { signal: abort.signal })
    setTimeout(() => abort.abort(new Error('given up')), 50)
    await expect(call).rejects.toThrow('given up')
  })

  test('makes heavier pictures that still decode', async () => {
    const { png, width } = await simulated({ imageBytes: 300_000 }).generate(REQUEST, { signal: never })
    expect(png.byteLength).toBeGreaterThan(300_000)
    expect(width).toBe(64)
  })

  test('with a concurrency it keeps order, bounds who waits, and gives slots back', async () => {
    const runtime = simulated({ concurrency: 1, queue: 1, msPerStep: 100 })
    const abort = new AbortController()
    const ended: string[] = []
    const first = runtime.generate(REQUEST, { signal: never }).then(() => ended.push('first'))
    const second = runtime.generate(REQUEST, { signal: abort.signal }).catch(() => ended.push('second left'))
    await expect(runtime.generate(REQUEST, { signal: never })).rejects.toMatchObject({
      code: 'runtime_unavailable',
    })
    abort.abort(new Error('left'))
    await second
    const third = runtime.generate(REQUEST, { signal: never }).then(() => ended.push('third'))
    await Promise.all([first, third])
    expect(ended).toEqual(['second left', 'first', 'third'])
  })

  test('refuses options that it does not know', () => {
    expect(() => simulatedOptions.parse({ msPerStep: -1 })).toThrow()
    expect(() => simulatedOptions.parse({ slow: true })).toThrow()
  })
})
