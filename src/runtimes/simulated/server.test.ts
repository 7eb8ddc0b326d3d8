import { afterEach, describe, expect, test } from 'vitest'
import { eventually } from '../../../test/support/eventually.ts'
import { listen } from '../../../test/support/listen.ts'
import { createSimulatedServer, type SimulatedStats } from './server.ts'
import { simulatedOptions } from './simulated.ts'

const MS_PER_STEP = 100
const REQUEST = { prompt: 'a fox', width: 64, height: 64, num_inference_steps: 2, seed: 7 }
const closing: (() => void)[] = []
afterEach(() => {
  for (const close of closing.splice(0)) close()
})

/** On a socket, because a caller who leaves is what is tested. */
async function start(options: object) {
  const app = createSimulatedServer({
    ...simulatedOptions.parse({ msPerStep: MS_PER_STEP, ...options }),
    modelName: 'model',
  })
  const { url, close } = await listen(app)
  closing.push(close)
  return {
    // Past the socket, where nothing but a turn of the event loop lies between a look and what follows it.
    stats: async () => (await (await app.request('/stats')).json()) as SimulatedStats,
    predict: ({ accept, signal }: { accept: string; signal?: AbortSignal }) =>
      fetch(`${url}/v1/models/model:predict`, {
        method: 'POST',
        headers: { accept, 'content-type': 'application/json' },
        body: JSON.stringify({
          instances: [{ prompt: 'a fox', width: 64, height: 64, num_inference_steps: 100 }],
        }),
        signal,
      }),
  }
}

test.each(['application/json', 'text/event-stream'])(
  'who leaves stops the generation within a step: %s',
  async (accept) => {
    const { stats, predict } = await start({})
    const leave = new AbortController()
    const call = predict({ accept, signal: leave.signal }).then((response) => response.text())
    call.catch(() => {})
    await eventually(async () => expect((await stats()).steps).toBeGreaterThan(1))
    const { steps } = await stats()
    leave.abort()
    await expect(call).rejects.toThrow()
    await eventually(async () =>
      expect(await stats()).toMatchObject({ started: 1, aborted: 1, finished: 0, running: 0 }),
    )
    // One step that was under way, and one for the time between asking and leaving.
    expect((await stats()).steps).toBeLessThanOrEqual(steps + 2)
  },
)

test.each(['application/json', 'text/event-stream'])(
  'who comes too many is refused at once: %s',
  async (accept) => {
    const { stats, predict } = await start({ concurrency: 1, queue: 0 })
    const leave = new AbortController()
    predict({ accept, signal: leave.signal }).catch(() => {})
    await eventually(async () => expect((await stats()).running).toBe(1))
    const response = await predict({ accept })
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('1')
    expect(await response.json()).toEqual({ error: expect.any(String) })
    leave.abort()
  },
)

describe('the server of a simulated runtime', () => {
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
