import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from '../../test/support/eventually.ts'
import type { FromWorker, ToWorker } from './embedded/messages.ts'
import { readModel } from './embedded/model.ts'
import { seededNoise, timeSteps } from './embedded/sampler.ts'
import { createTokenizer } from './embedded/tokenizer.ts'
import { upscale } from './embedded/upscale.ts'
import { createEmbeddedRuntime, embeddedOptions } from './embedded.ts'
import type { Runtime, StepProgress } from './runtime.ts'

/** Tiny networks of random weights, and a picture that diffusers drew with them: model/make_test_model.py. */
const FOLDER = join(import.meta.dirname, '../../test/fixtures/embedded-model')
const reference = JSON.parse(readFileSync(join(FOLDER, 'reference.json'), 'utf8')) as {
  request: { prompt: string; negative_prompt: string; seed: number; num_inference_steps: number }
  tokens: number[]
  noise: number[]
  pixels: string
}
const REQUEST = { ...reference.request, width: 64, height: 64 }
const never = new AbortController().signal

async function pixelsOf(png: Uint8Array): Promise<Buffer> {
  return await sharp(png).raw().toBuffer()
}

describe('an embedded runtime', () => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = createEmbeddedRuntime({ folder: FOLDER })
    await runtime.check({ signal: never })
  })
  afterAll(() => runtime.close())

  test('draws the picture that diffusers draws from the same noise and words', async () => {
    const { png } = await runtime.generate(REQUEST, { signal: never })
    const drawn = await pixelsOf(png)
    const wanted = Buffer.from(reference.pixels, 'base64')
    expect(drawn.length).toBe(wanted.length)
    // Sums in another order, seven steps long; another word or another seed differs by a hundred.
    const furthest = Math.max(...drawn.map((value, i) => Math.abs(value - wanted[i]!)))
    expect(furthest).toBeLessThanOrEqual(3)
  })

  test.each([
    ['prompt', { prompt: 'a green square' }],
    ['negative prompt', { negative_prompt: 'green square' }],
    ['guidance', { guidance_scale: 9 }],
    ['steps', { num_inference_steps: 3 }],
    ['seed', { seed: 5 }],
  ])('the picture depends on the %s', async (_, change) => {
    const [one, other] = await Promise.all([
      runtime.generate(REQUEST, { signal: never }),
      runtime.generate({ ...REQUEST, ...change }, { signal: never }),
    ])
    expect(Buffer.from(one.png).equals(other.png)).toBe(false)
  })

  test('without guidance the negative prompt counts for nothing', async () => {
    const plain = { ...REQUEST, guidance_scale: 1 }
    const [one, other] = await Promise.all([
      runtime.generate(plain, { signal: never }),
      runtime.generate({ ...plain, negative_prompt: 'green square' }, { signal: never }),
    ])
    expect(Buffer.from(one.png).equals(other.png)).toBe(true)
  })

  test('tells what it did', async () => {
    const { model, seed, steps, width, height, inferenceMs } = await runtime.generate(REQUEST, {
      signal: never,
    })
    expect({ model, seed, steps, width, height }).toEqual({
      model: 'test-model',
      seed: REQUEST.seed,
      steps: 7,
      width: 64,
      height: 64,
    })
    expect(inferenceMs).toBeGreaterThanOrEqual(0)
  })

  test('takes the size, steps and guidance of the model where the request has none', async () => {
    const { width, height, steps } = await runtime.generate({ prompt: 'a ring', seed: 1 }, { signal: never })
    expect({ width, height, steps }).toEqual({ width: 512, height: 512, steps: 20 })
  })

  test('reports each step while the event loop stays free', async () => {
    const steps: StepProgress[] = []
    let turns = 0
    const timer = setInterval(() => {
      turns += 1
    }, 1)
    await runtime.generate(REQUEST, { signal: never, onProgress: (progress) => steps.push(progress) })
    clearInterval(timer)
    expect(steps).toEqual([1, 2, 3, 4, 5, 6, 7].map((step) => ({ step, steps: 7 })))
    expect(turns).toBeGreaterThan(0)
  })

  test('a cancelled drawing ends at once, and is not heard of again', async () => {
    const abort = new AbortController()
    let seen = 0
    const cancelled = runtime.generate(
      { ...REQUEST, num_inference_steps: 200 },
      {
        signal: abort.signal,
        onProgress({ step }) {
          seen = step
          if (step === 2) abort.abort(new Error('given up'))
        },
      },
    )
    await expect(cancelled).rejects.toThrow('given up')
    await runtime.generate(REQUEST, { signal: never })
    expect(seen).toBe(2)
  })

  test('a drawing that was cancelled while it waited is never begun', async () => {
    const abort = new AbortController()
    const long = { ...REQUEST, num_inference_steps: 60 }
    const leave = () => abort.abort(new Error('left'))
    // The second one leaves at the first step of the first, which has 59 more to do.
    const first = runtime.generate(long, { signal: never, onProgress: leave })
    const steps: StepProgress[] = []
    const second = runtime.generate(REQUEST, {
      signal: abort.signal,
      onProgress: (progress) => steps.push(progress),
    })
    const third = runtime.generate(REQUEST, { signal: never })
    await expect(second).rejects.toThrow('left')
    await Promise.all([first, third])
    expect(steps).toEqual([])
  })
})

describe('the model that is shipped', () => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = createEmbeddedRuntime(embeddedOptions.parse({}))
    await runtime.check({ signal: never })
  })
  afterAll(() => runtime.close())

  test.each([
    ['a red heart', [221, 46, 68]],
    ['a green square', [92, 170, 70]],
    ['a blue circle', [56, 110, 225]],
  ])('%s has its colour in the middle, on white', async (prompt, colour) => {
    const request = { prompt, seed: 1, width: 64, height: 64 }
    const { png, model } = await runtime.generate(request, { signal: never })
    const pixels = await pixelsOf(png)
    const at = (x: number, y: number) => [...pixels.subarray((y * 64 + x) * 3, (y * 64 + x) * 3 + 3)]
    const apart = (a: number[], b: number[]) => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))
    expect(apart(at(32, 32), colour)).toBeLessThan(60)
    for (const [x, y] of [
      [2, 2],
      [61, 2],
      [2, 61],
      [61, 61],
    ] as const)
      expect(apart(at(x, y), [255, 255, 255])).toBeLessThan(60)
    expect(model).toBe('icons-64')
  })

  test('it says of how many things, as many as it was trained on', () => {
    const concepts = readFileSync(join(import.meta.dirname, '../../model/concepts.txt'), 'utf8')
    const things = concepts.split('\n').filter((line) => line.trim() && !line.startsWith('#'))
    expect(runtime.description).toContain(`one of ${things.length} things`)
  })

  test('it fits into the repository', async () => {
    const { textEncoder, denoiser, decoder } = await readModel(embeddedOptions.parse({}).folder)
    expect(textEncoder.length + denoiser.length + decoder.length).toBeLessThan(8_000_000)
  })
})

describe('what it cannot do is said', () => {
  test('a folder without a model', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'no-model-'))
    const runtime = createEmbeddedRuntime({ folder })
    const said = { code: 'runtime_unavailable', message: expect.stringContaining('model/README.md') }
    await expect(runtime.check({ signal: never })).rejects.toMatchObject(said)
    expect(runtime.description).toBeUndefined()
    await expect(runtime.generate(REQUEST, { signal: never })).rejects.toMatchObject(said)
    await runtime.close()
  })

  test('a model that cannot be loaded, once that was tried', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'broken-model-'))
    for (const name of readdirSync(FOLDER)) writeFileSync(join(folder, name), 'broken')
    const runtime = createEmbeddedRuntime({ folder })
    await runtime.check({ signal: never })
    const said = { code: 'runtime_unavailable', message: expect.stringContaining('missing or broken') }
    await expect(runtime.generate(REQUEST, { signal: never })).rejects.toMatchObject(said)
    await expect(runtime.check({ signal: never })).rejects.toMatchObject(said)
    await runtime.close()
    rmSync(folder, { recursive: true })
  })

  test('a model that came later is found by the next request', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'late-model-'))
    const runtime = createEmbeddedRuntime({ folder })
    await expect(runtime.check({ signal: never })).rejects.toMatchObject({ code: 'runtime_unavailable' })
    cpSync(FOLDER, folder, { recursive: true })
    await eventually(async () => {
      const { model } = await runtime.generate(REQUEST, { signal: never })
      expect(model).toBe('test-model')
    })
    await runtime.close()
    rmSync(folder, { recursive: true })
  })

  test('a runtime that was closed', async () => {
    const runtime = createEmbeddedRuntime({ folder: FOLDER })
    await runtime.close()
    await expect(runtime.generate(REQUEST, { signal: never })).rejects.toMatchObject({
      code: 'runtime_unavailable',
    })
  })
})

test('its thread leaves a cancelled drawing long before the last step', async () => {
  const worker = new Worker(new URL('embedded/painter-thread.ts', import.meta.url), {
    workerData: { folder: FOLDER },
  })
  const tell = (message: ToWorker) => worker.postMessage(message)
  // As many as the model has: more than the thread can take before it hears of the cancel.
  const num_inference_steps = 1000
  let stepsOfFirst = 0
  await new Promise<void>((resolve, reject) => {
    worker.once('error', reject)
    worker.on('message', (message: FromWorker) => {
      if (message.kind === 'ready')
        tell({ kind: 'draw', id: 1, request: { ...REQUEST, num_inference_steps } })
      if (message.kind === 'step' && message.id === 1) {
        stepsOfFirst = message.step
        if (message.step !== 2) return
        tell({ kind: 'cancel', id: 1 })
        tell({ kind: 'draw', id: 2, request: REQUEST })
      }
      if (message.kind === 'drawn' && message.id === 2) resolve()
    })
  })
  await worker.terminate()
  expect(stepsOfFirst).toBeLessThan(num_inference_steps)
})

test('the tokenizer splits words as the one that the model was trained with', async () => {
  const { about, vocabulary } = await readModel(FOLDER)
  expect(createTokenizer(vocabulary, about)(reference.request.prompt)).toEqual(reference.tokens)
})

test('the noise is that of the seed', () => {
  const noise = seededNoise(reference.request.seed, 256)
  expect([...noise.subarray(0, 8)].map((x) => Math.round(x * 1e5) / 1e5)).toEqual(
    reference.noise.map((x) => Math.round(x * 1e5) / 1e5),
  )
  const mean = noise.reduce((sum, x) => sum + x, 0) / noise.length
  expect(Math.abs(mean)).toBeLessThan(0.3)
})

test('time steps are counted from the noisiest one', () => {
  expect(timeSteps(1000, 4)).toEqual([999, 749, 499, 249])
  expect(timeSteps(1000, 3)).toEqual([999, 666, 332])
})

describe('a larger canvas', () => {
  /** Two columns: black, white. */
  const planes = new Float32Array([-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1])
  const columns = (width: number, height: number) => {
    const pixels = upscale({ planes, side: 2, width, height })
    return Array.from({ length: width }, (_, x) => pixels[x * 3] as number)
  }

  test('shows each pixel as it was where the size is the same', () => {
    expect(columns(2, 2)).toEqual([0, 255])
  })

  test('rises from one colour to the next without going beyond either', () => {
    const row = columns(16, 16)
    expect(row[0]).toBe(0)
    expect(row.at(-1)).toBe(255)
    expect(row).toEqual([...row].sort((a, b) => a - b))
  })

  test('keeps the picture square in its middle and goes on with its edge', () => {
    const row = columns(12, 4)
    expect(row.slice(0, 4)).toEqual([0, 0, 0, 0])
    expect(row.slice(8)).toEqual([255, 255, 255, 255])
  })
})
