import { type Context, Hono } from 'hono'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { listen } from '../../test/support/listen.ts'
import { createOpenAIRuntime } from './openai.ts'
import type { Runtime } from './runtime.ts'
import { createSimulatedRuntime, simulatedOptions } from './simulated/simulated.ts'

const REQUEST = {
  prompt: 'a fox',
  negative_prompt: 'blurry',
  width: 64,
  height: 72,
  num_inference_steps: 3,
  seed: 7,
}
const never = new AbortController().signal

// Answers as SGLang diffusion does; vLLM-Omni and LocalAI leave inference_time_s out.
const received: { body: unknown; authorization: string | undefined }[] = []
let answer: ((c: Context) => Response | Promise<Response>) | undefined
const app = new Hono()
  .post('/v1/images/generations', async (c) => {
    received.push({ body: await c.req.json(), authorization: c.req.header('authorization') })
    if (answer) return answer(c)
    const { png } = await createSimulatedRuntime(simulatedOptions.parse({ msPerStep: 0 })).generate(REQUEST, {
      signal: never,
    })
    return c.json({
      created: 1,
      data: [{ b64_json: Buffer.from(png).toString('base64') }],
      inference_time_s: 1.5,
    })
  })
  .get('/v1/models', (c) => answer?.(c) ?? c.json({ object: 'list', data: [] }))

let url: string
let close: () => void
let runtime: Runtime
beforeAll(async () => {
  ;({ url, close } = await listen(app))
  runtime = createOpenAIRuntime({ url, model: 'flux', apiKey: 'key' })
})
afterEach(() => {
  answer = undefined
  received.length = 0
})
afterAll(async () => {
  await runtime.close()
  close()
})

test('asks for one picture in base64, with its key, and reads the size from the picture', async () => {
  const { png, headroom: _, ...image } = await runtime.generate(REQUEST, { signal: never })
  expect(image).toEqual({ width: 64, height: 72, seed: 7, model: 'flux', inferenceMs: 1500 })
  expect(png.length).toBeGreaterThan(1000)
  const { prompt, negative_prompt, num_inference_steps, seed } = REQUEST
  expect(received).toEqual([
    {
      body: {
        prompt,
        negative_prompt,
        num_inference_steps,
        seed,
        model: 'flux',
        n: 1,
        response_format: 'b64_json',
        size: '64x72',
      },
      authorization: 'Bearer key',
    },
  ])
})

test('leaves the size to the model, or takes it whole', async () => {
  await runtime.generate({ prompt: 'a', seed: 1 }, { signal: never })
  expect(received[0]?.body).not.toHaveProperty('size')
  await expect(
    runtime.generate({ prompt: 'a', seed: 1, width: 64 }, { signal: never }),
  ).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining('width and height'),
  })
})

test('takes the URL with /v1 as well, as the clients of OpenAI do', async () => {
  const other = createOpenAIRuntime({ url: `${url}/v1/`, model: 'flux' })
  await other.generate(REQUEST, { signal: never })
  expect(received[0]?.authorization).toBeUndefined()
  await other.close()
})

test.each<[number, unknown, object]>([
  [
    400,
    { error: { message: 'seed: too big' } },
    { code: 'invalid_request', message: expect.stringMatching(/seed: too big$/) },
  ],
  [
    422,
    { error: { message: 'size: odd' } },
    { code: 'invalid_request', message: expect.stringMatching(/size: odd$/) },
  ],
  [401, { error: { message: 'bad key' } }, { code: 'runtime_failed' }],
  [
    404,
    { error: { message: 'no such model' } },
    { code: 'runtime_unavailable', message: expect.stringContaining('"flux"') },
  ],
  [503, {}, { code: 'runtime_unavailable', retryAfterSeconds: 5 }],
  [200, { data: [] }, { code: 'runtime_failed' }],
  [200, { data: [{ b64_json: 'iVBORw0KGgo=' }] }, { code: 'runtime_failed' }],
  [200, { data: [{ url: 'http://elsewhere/picture.png' }] }, { code: 'runtime_failed' }],
])('status %i with %j', async (status, body, error) => {
  answer = () => Response.json(body, { status })
  await expect(runtime.generate(REQUEST, { signal: never })).rejects.toMatchObject(error)
})

test('an answer of another media type is not read', async () => {
  answer = () => new Response('{"data":[]}', { headers: { 'content-type': 'text/plain' } })
  const failure = await runtime.generate(REQUEST, { signal: never }).catch((error) => error)
  expect(failure.code).toBe('runtime_failed')
  expect(failure.cause.message).toContain('text/plain')
})

test('is ready when it lists its models', async () => {
  await expect(runtime.check({ signal: never })).resolves.toBeUndefined()
  answer = () => Response.json({}, { status: 401 })
  await expect(runtime.check({ signal: never })).rejects.toMatchObject({ code: 'runtime_unavailable' })
})
