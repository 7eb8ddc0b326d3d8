import sharp from 'sharp'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type BrokenWay, startBrokenRuntime } from '../../test/fakes/broken-runtime.ts'
import { eventually } from '../../test/support/eventually.ts'
import { listen } from '../../test/support/listen.ts'
import { AppError } from '../errors.ts'
import { createKServeRuntime } from './kserve.ts'
import type { GeneratedImage, Runtime, StepProgress } from './runtime.ts'
import { createSimulatedServer, type SimulatedStats } from './simulated/server.ts'
import { createSimulatedRuntime, simulatedOptions } from './simulated/simulated.ts'

const REQUEST = { prompt: 'a fox', width: 64, height: 64, num_inference_steps: 3, seed: 7 }
const never = new AbortController().signal

describe('in front of a runtime that works', () => {
  let url: string
  let close: () => void
  const app = createSimulatedServer({ ...simulatedOptions.parse({ msPerStep: 20 }), modelName: 'model' })
  const stats = async () => (await (await app.request('/stats')).json()) as SimulatedStats

  beforeAll(async () => {
    ;({ url, close } = await listen(app))
  })
  afterAll(() => close())

  describe.each<[string, () => Runtime]>([
    ['kserve', () => createKServeRuntime({ url, model: 'model', connections: 2 })],
    ['simulated', () => createSimulatedRuntime(simulatedOptions.parse({ msPerStep: 20 }))],
  ])('%s', (_, make) => {
    let runtime: Runtime
    let image: GeneratedImage
    const steps: StepProgress[] = []

    beforeAll(async () => {
      runtime = make()
      image = await runtime.generate(REQUEST, {
        signal: never,
        onProgress: (progress) => steps.push(progress),
      })
    })
    afterAll(() => runtime.close())

    test('makes a PNG of the asked size and says what made it', async () => {
      expect(image).toMatchObject({ width: 64, height: 64, seed: 7, steps: 3, model: 'simulated' })
      expect(image.inferenceMs).toBeGreaterThan(0)
      expect(await sharp(image.png).metadata()).toMatchObject({ format: 'png', width: 64, height: 64 })
    })

    test('reports every step in order', () => {
      expect(steps).toEqual([
        { step: 1, steps: 3 },
        { step: 2, steps: 3 },
        { step: 3, steps: 3 },
      ])
    })

    test('same request, same bytes; another seed or prompt, other bytes', async () => {
      const again = await runtime.generate(REQUEST, { signal: never })
      const seed = await runtime.generate({ ...REQUEST, seed: 8 }, { signal: never })
      const prompt = await runtime.generate({ ...REQUEST, prompt: 'a cat' }, { signal: never })
      expect(Buffer.from(again.png).equals(image.png)).toBe(true)
      expect(Buffer.from(seed.png).equals(image.png)).toBe(false)
      expect(Buffer.from(prompt.png).equals(image.png)).toBe(false)
    })

    test('aborting rejects with the reason, at once', async () => {
      const abort = new AbortController()
      const reason = new Error('enough')
      const call = runtime.generate(
        { ...REQUEST, num_inference_steps: 200 },
        { signal: abort.signal, onProgress: () => abort.abort(reason) },
      )
      await expect(call).rejects.toBe(reason)
      await expect(runtime.generate(REQUEST, { signal: abort.signal })).rejects.toBe(reason)
    })

    test('is ready', async () => {
      await expect(runtime.check({ signal: never })).resolves.toBeUndefined()
    })
  })

  test('an abort stops the runtime within a step, and 1000 of them leave no connection behind', async () => {
    const runtime = createKServeRuntime({ url, model: 'model', connections: 4 })
    const abortOne = async () => {
      const abort = new AbortController()
      const call = runtime.generate({ ...REQUEST, num_inference_steps: 200 }, { signal: abort.signal })
      call.catch(() => {})
      await new Promise((resolve) => setTimeout(resolve, 3))
      abort.abort()
      await expect(call).rejects.toThrow()
    }
    for (let round = 0; round < 50; round += 1) await Promise.all(Array.from({ length: 20 }, abortOne))
    await eventually(async () => expect((await stats()).running).toBe(0))
    expect((await runtime.generate(REQUEST, { signal: never })).width).toBe(64)
    await runtime.close()
  })

  test('a model that is not there is named, with the setting to change', async () => {
    const runtime = createKServeRuntime({ url, model: 'other' })
    await expect(runtime.generate(REQUEST, { signal: never })).rejects.toMatchObject({
      code: 'runtime_unavailable',
      message: expect.stringMatching(/"other".*DIFFUSERS_MODEL_ID/),
    })
    await expect(runtime.check({ signal: never })).rejects.toThrow()
    await runtime.close()
  })
})

describe('in front of a runtime that is broken', () => {
  let broken: Awaited<ReturnType<typeof startBrokenRuntime>>
  let runtime: Runtime

  beforeEach(async () => {
    broken = await startBrokenRuntime('works')
    runtime = createKServeRuntime({
      url: broken.url,
      model: 'model',
      idleTimeoutMs: 100,
      maxResponseBytes: 2 ** 22,
    })
  })
  afterEach(async () => {
    broken.close()
    await runtime.close()
  })

  test.each<[BrokenWay, Partial<AppError>]>([
    ['hangs up at once', { code: 'runtime_unavailable' }],
    ['dies half-way through the JSON', { code: 'runtime_failed' }],
    ['dies half-way through the stream', { code: 'runtime_failed' }],
    ['ends the stream without a result', { code: 'runtime_failed' }],
    ['goes silent in the stream', { code: 'runtime_failed' }],
    ['sends an error event', { code: 'runtime_failed' }],
    ['sends an event that is no JSON', { code: 'runtime_failed' }],
    ['answers no predictions', { code: 'runtime_failed' }],
    ['answers garbage', { code: 'runtime_failed' }],
    ['answers in HTML', { code: 'runtime_failed' }],
    ['truncates the PNG', { code: 'runtime_failed' }],
    ['sends what is no base64', { code: 'runtime_failed' }],
    ['sends what is no PNG', { code: 'runtime_failed' }],
    ['sends more than fits', { code: 'runtime_failed' }],
    ['answers 500 with a stack trace', { code: 'runtime_failed' }],
    ['is full', { code: 'runtime_unavailable', retryAfterSeconds: 7 }],
    ['does not know the model', { code: 'runtime_unavailable' }],
    ['refuses the parameters', { code: 'invalid_request' }],
  ])('%s', async (way, error) => {
    broken.way = way
    const failure = await runtime.generate(REQUEST, { signal: never }).catch((thrown) => thrown)
    expect(failure).toBeInstanceOf(AppError)
    expect(failure).toMatchObject(error)
    // What the runtime says of itself is for the log alone.
    expect(failure.message).not.toMatch(/Traceback|secret|\/opt|nginx|127\.0\.0\.1/)
    await eventually(() => expect(broken.open).toBe(0))
    broken.way = 'works'
    expect((await runtime.generate(REQUEST, { signal: never })).width).toBe(64)
  })

  test('a refusal is passed on in one clean line', async () => {
    broken.way = 'refuses the parameters'
    await expect(runtime.generate(REQUEST, { signal: never })).rejects.toThrow(
      'The diffusion runtime refused the request: num_inference_steps: got 200, allowed: 1 to 149',
    )
  })

  test('one that never answers is ended by the signal alone', async () => {
    broken.way = 'never answers'
    const abort = new AbortController()
    const call = runtime.generate(REQUEST, { signal: abort.signal })
    call.catch(() => {})
    await eventually(() => expect(broken.open).toBe(1))
    await new Promise((resolve) => setTimeout(resolve, 200))
    abort.abort(new Error('deadline'))
    await expect(call).rejects.toThrow('deadline')
    await eventually(() => expect(broken.open).toBe(0))
  })

  test('one that is not there', async () => {
    broken.close()
    await expect(runtime.generate(REQUEST, { signal: never })).rejects.toMatchObject({
      code: 'runtime_unavailable',
    })
    await expect(runtime.check({ signal: never })).rejects.toMatchObject({ code: 'runtime_unavailable' })
  })
})
