import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, test } from 'vitest'
import { commandFor } from '../../test/support/process.ts'
import { type LandscapeOptions, paintLandscape } from './landscape.ts'
import { createSimulatedRuntime, simulatedOptions } from './simulated.ts'

const BASE: LandscapeOptions = {
  prompt: 'a red fox in the snow',
  negativePrompt: '',
  seed: 7,
  width: 128,
  height: 96,
  steps: 20,
  guidance: 7.5,
}
const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const paint = async (change: Partial<LandscapeOptions>) =>
  hashOf(await paintLandscape({ ...BASE, ...change }))

describe('a simulated landscape', () => {
  let base: string
  beforeAll(async () => {
    base = await paint({})
  })

  test('is the same for the same request', async () => {
    expect(await paint({})).toBe(base)
  })

  test.each<Partial<LandscapeOptions>>([
    { prompt: 'a red fox in the sand' },
    { negativePrompt: 'blurry' },
    { seed: 8 },
    { width: 136 },
    { height: 104 },
    { steps: 21 },
    { guidance: 8 },
  ])('is another one with %j', async (change) => {
    expect(await paint(change)).not.toBe(base)
  })

  test('has the same PNG on Deno, to the byte', async () => {
    const request = { prompt: 'a fox', width: 64, height: 64, num_inference_steps: 1, seed: 7 }
    const { png } = await createSimulatedRuntime(simulatedOptions.parse({ msPerStep: 0 })).generate(request, {
      signal: new AbortController().signal,
    })
    const program = `
      import { createSimulatedRuntime, simulatedOptions } from '${new URL('./simulated.ts', import.meta.url)}'
      import { createHash } from 'node:crypto'
      const runtime = createSimulatedRuntime(simulatedOptions.parse({ msPerStep: 0 }))
      const { png } = await runtime.generate(${JSON.stringify(request)}, { signal: new AbortController().signal })
      console.log(createHash('sha256').update(png).digest('hex'))`
    const { stdout } = await promisify(execFile)(commandFor('deno', '').command, ['eval', '--quiet', program])
    expect(stdout.trim()).toBe(hashOf(png))
  })

  test('says SIMULATED at every size, and the prompt where there is room', async () => {
    const inkIn = (pixels: Uint8Array, width: number, height: number, value: number) => {
      const band = pixels.subarray((height - 11) * width * 3)
      return band.filter((byte, i) => i % 3 === 0 && byte === value && band[i + 1] === value).length
    }
    const small = await paintLandscape({ ...BASE, width: 64, height: 64 })
    const large = await paintLandscape({ ...BASE, width: 224, height: 64 })
    // The pixels of SIMULATED, of the prompt.
    expect(inkIn(small, 64, 64, 255)).toBe(inkIn(large, 224, 64, 255))
    expect(inkIn(small, 64, 64, 255)).toBeGreaterThan(100)
    expect(inkIn(small, 64, 64, 205)).toBe(0)
    expect(inkIn(large, 224, 64, 205)).toBeGreaterThan(100)
  })

  test('a large one leaves the event loop free in between', async () => {
    let turns = 0
    const timer = setInterval(() => {
      turns += 1
    }, 1)
    await paintLandscape({ ...BASE, width: 1024, height: 1024 })
    clearInterval(timer)
    expect(turns).toBeGreaterThan(5)
  })
})
