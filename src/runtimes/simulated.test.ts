import { describe, expect, test } from 'vitest'
import { createSimulatedServer } from './simulated.server.ts'
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

describe('its server', () => {
  const app = createSimulatedServer({ ...simulatedOptions.parse({ msPerStep: 0 }), modelName: 'model' })
  const predict = (body: unknown, headers = {}) =>
    app.request('/v1/models/model:predict', {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    })

  test('answers predictions in plain JSON', async () => {
    const response = await predict({ instances: [REQUEST, { ...REQUEST, seed: 8 }] })
    const { predictions } = (await response.json()) as { predictions: Record<string, unknown>[] }
    expect(predictions.map(({ seed }) => seed)).toEqual([7, 8])
    expect(predictions[0]).toMatchObject({
      model_name: 'simulated',
      prompt: 'a fox',
      image: { format: 'PNG', b64: expect.stringMatching(/^iVBOR/) },
      num_inference_steps: 2,
    })
  })

  test('streams progress per instance, then the result', async () => {
    const response = await predict({ instances: [REQUEST] }, { accept: 'text/event-stream' })
    const text = await response.text()
    expect(text).toMatch(/^event: progress\ndata: {"instance":0,"step":1,"steps":2}\n\nevent: progress/)
    expect(text).toContain('event: result\ndata: {"predictions":[')
  })

  test.each([
    [{ instances: [{ ...REQUEST, width: 65 }] }, /instances\.0\.width/],
    [{ instances: [{ ...REQUEST, sampler: 'x' }] }, /sampler/],
    [{ instances: [] }, /instances/],
    [{}, /instances/],
  ])('refuses %j by name', async (body, error) => {
    const response = await predict(body)
    expect(response.status).toBe(400)
    expect(((await response.json()) as { error: string }).error).toMatch(error)
  })

  test('answers health and model routes', async () => {
    for (const path of ['/health', '/v1/models', '/v1/models/model', '/v2/health/live', '/v2/health/ready'])
      expect((await app.request(path)).status).toBe(200)
    expect((await app.request('/v1/models/other')).status).toBe(404)
    expect((await app.request('/v1/models/other:predict', { method: 'POST' })).status).toBe(404)
  })
})
