import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { commandFor } from '../../../test/support/process.ts'
import { sha256 } from '../../hash.ts'
import { type PlaceholderOptions, paintPlaceholder } from './placeholder.ts'
import { createSimulatedRuntime, simulatedOptions } from './simulated.ts'

const BASE: PlaceholderOptions = { prompt: 'a red fox in the snow', seed: 7, width: 128, height: 96 }
const paint = async (change: Partial<PlaceholderOptions>) =>
  sha256(await paintPlaceholder({ ...BASE, ...change }), 'hex')

/** The share of pixels that are white, as only letters are. */
function whiteIn(pixels: Uint8Array): number {
  let white = 0
  for (let at = 0; at < pixels.length; at += 3)
    if (pixels.subarray(at, at + 3).every((byte) => byte === 255)) white += 1
  return white / (pixels.length / 3)
}

describe('a placeholder', () => {
  test('is the same for the same request', async () => {
    expect(await paint({})).toBe(await paint({}))
  })

  test.each<Partial<PlaceholderOptions>>([
    { prompt: 'a red fox in the sand' },
    { seed: 8 },
    { width: 136 },
    { height: 104 },
  ])('is another one with %j', async (change) => {
    expect(await paint(change)).not.toBe(await paint({}))
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
    expect(stdout.trim()).toBe(sha256(png, 'hex'))
  })

  test.each([
    [64, 64],
    [64, 2048],
    [2048, 64],
    [512, 512],
    [2048, 2048],
  ])('says SIMULATED at %i x %i', async (width, height) => {
    const pixels = await paintPlaceholder({ ...BASE, width, height })
    const scale = Math.floor(Math.min(width / 64, height / 16))
    // The word has 135 dots of `scale` by `scale` pixels.
    expect(whiteIn(pixels)).toBeCloseTo((135 * scale ** 2) / (width * height), 10)
  })

  test('a large one leaves the event loop free in between', async () => {
    let turns = 0
    let next: NodeJS.Immediate
    const count = () => {
      turns += 1
      next = setImmediate(count)
    }
    count()
    await paintPlaceholder({ ...BASE, width: 1024, height: 1024 })
    clearImmediate(next!)
    expect(turns).toBeGreaterThan(5)
  })
})
