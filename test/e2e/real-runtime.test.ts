/** client -> server -> the real Python runtime -> the demo model, a real diffusers pipeline, on CPU. */
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AnyClient, HTTP_CLIENTS, stdioClients } from '../support/clients.ts'
import { dominantColour } from '../support/colours.ts'
import { type DiffusersRuntime, startDiffusersRuntime } from '../support/diffusers-runtime.ts'
import { eventually } from '../support/eventually.ts'
import { type Running, startServer } from '../support/process.ts'

const REQUEST = {
  prompt: 'a red circle on a blue square',
  width: 96,
  height: 64,
  num_inference_steps: 5,
  seed: 42,
}
/** Long enough to be caught half-way on any machine, and each step is long enough to tell steps apart. */
const LONG = { ...REQUEST, width: 320, height: 320, num_inference_steps: 140 }

let runtime: DiffusersRuntime
let server: Running
let env: Record<string, string>

beforeAll(async () => {
  runtime = await startDiffusersRuntime({ pipeline: 'icons' })
  env = { DIFFUSERS_RUNTIME_URL: runtime.url, DIFFUSERS_MODEL_ID: 'model' }
  server = await startServer('node', env)
})
afterAll(async () => {
  await server?.stop()
  await runtime?.stop()
})

const ask = (body: object, headers: Record<string, string> = {}) =>
  fetch(`${server.url}/api/images`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
/** A picture, made anew each time: a stored one would be answered again. */
const png = async (body: object) => {
  const response = await ask(body, { accept: 'image/png' })
  const picture = Buffer.from(await response.arrayBuffer())
  await fetch(`${server.url}/images/${response.headers.get('x-image-id')}`, { method: 'DELETE' })
  return picture
}
const steps = () => runtime.metric('diffusers_runtime_steps_total')
const isDenoising = () =>
  eventually(async () => expect(await runtime.metric('diffusers_runtime_in_flight')).toBe(1))
const isIdle = () =>
  eventually(async () => expect(await runtime.metric('diffusers_runtime_in_flight')).toBe(0))

/** Cancels while a long picture is being made, and shows that at most the step under way was still done. */
async function stopsWithinOneStep(cancel: () => Promise<unknown>): Promise<void> {
  await isDenoising()
  await cancel()
  const atCancel = await steps()
  await isIdle()
  expect((await steps()) - atCancel).toBeLessThanOrEqual(1)
  expect(await runtime.metric('diffusers_runtime_requests_total\\{outcome="cancelled"\\}')).toBeGreaterThan(0)
}

describe('a picture', () => {
  test('decodes, has the asked size, and says in itself what made it', async () => {
    const picture = await png(REQUEST)
    expect(await sharp(picture).metadata()).toMatchObject({ format: 'png', width: 96, height: 64 })
    expect(picture.toString('latin1')).toContain('"seed":42')
  })

  test.each(['red', 'green', 'blue'])(
    'of a %s car shows that colour, at the size of the model',
    async (colour) => {
      const picture = await png({
        prompt: `a ${colour} car`,
        seed: 7,
        num_inference_steps: 20,
        guidance_scale: 4,
      })
      expect(await sharp(picture).metadata()).toMatchObject({ width: 64, height: 64 })
      expect(await dominantColour(picture)).toBe(colour)
    },
  )

  test('same seed, same bytes; another seed, other bytes', async () => {
    const before = await steps()
    const [first, second, other] = [
      await png(REQUEST),
      await png(REQUEST),
      await png({ ...REQUEST, seed: 43 }),
    ]
    expect(first.equals(second as Buffer)).toBe(true)
    expect(first.equals(other as Buffer)).toBe(false)
    expect((await steps()) - before).toBe(3 * REQUEST.num_inference_steps)
  })

  test('without a seed reports the one that was drawn, and that seed makes it again', async () => {
    const { seed: _, ...unseeded } = REQUEST
    const response = await ask(unseeded, { accept: 'image/png' })
    const seed = Number(response.headers.get('x-seed'))
    expect((await png({ ...REQUEST, seed })).equals(Buffer.from(await response.arrayBuffer()))).toBe(true)
  })

  test('reaches every MCP client, with its steps in order', async () => {
    let seed = 100
    for (const connect of Object.values({ ...HTTP_CLIENTS, ...stdioClients('node') })) {
      seed += 1
      const client = await connect({ url: server.url, env })
      const told: number[] = []
      const result = await client.callTool(
        { name: 'generate_image', arguments: { ...REQUEST, num_inference_steps: 20, seed } },
        { onprogress: ({ progress }) => told.push(progress) },
      )
      expect(result.structuredContent).toMatchObject({ state: 'succeeded', seed, steps: 20 })
      const picture = Buffer.from(result.content[1]?.data ?? '', 'base64')
      expect(await sharp(picture).metadata()).toMatchObject({ width: 96, height: 64 })
      expect(told.length).toBeGreaterThan(3)
      expect(told).toEqual([...told].sort((a, b) => a - b))
      await client.close()
    }
  })
})

describe('while a picture is being made', () => {
  test("the runtime's /health answers many times", async () => {
    const making = ask({ ...LONG, num_inference_steps: 20 })
    await isDenoising()
    let answered = 0
    while ((await runtime.metric('diffusers_runtime_in_flight')) === 1) {
      expect((await fetch(`${runtime.url}/health`)).status).toBe(200)
      answered += 1
    }
    expect(answered).toBeGreaterThan(10)
    expect((await making).status).toBe(200)
  })

  test('DELETE /api/jobs/{id} stops denoising within one step', async () => {
    const job = (await ask(LONG, { prefer: 'respond-async' })).headers.get('location')
    await stopsWithinOneStep(() => fetch(new URL(job as string, server.url), { method: 'DELETE' }))
  })

  test('cancel_image_job stops denoising within one step', async () => {
    const { job_id } = (await (await ask(LONG, { prefer: 'respond-async' })).json()) as { job_id: string }
    const client = await HTTP_CLIENTS['current SDK, 2026-07-28']?.({ url: server.url, env })
    await stopsWithinOneStep(async () =>
      client?.callTool({ name: 'cancel_image_job', arguments: { job_id } }),
    )
    await client?.close()
  })

  test.each(Object.entries(stdioClients('node')))(
    '%s: a cancel notification stops denoising within one step',
    async (_, connect) => {
      const client: AnyClient = await connect({ url: '', env })
      const abort = new AbortController()
      const call = client.callTool({ name: 'generate_image', arguments: LONG }, { signal: abort.signal })
      call.catch(() => {})
      await stopsWithinOneStep(async () => {
        abort.abort()
        await call.catch(() => {})
        // The notification has to cross a pipe and a socket before it can stop anything.
        await new Promise((resolve) => setTimeout(resolve, 200))
      })
      await client.close()
    },
  )

  test('a closed HTTP call stops denoising', async () => {
    const abort = new AbortController()
    const call = fetch(`${server.url}/api/images`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(LONG),
      signal: abort.signal,
    })
    call.catch(() => {})
    await isDenoising()
    abort.abort()
    await isIdle()
    expect((await png(REQUEST)).byteLength).toBeGreaterThan(100)
  })
})

test('a runtime that dies half-way fails the call clearly, and the server goes on serving', async () => {
  const doomed = await startDiffusersRuntime({ pipeline: 'sdxl' })
  const own = await startServer('node', { DIFFUSERS_RUNTIME_URL: doomed.url })
  const call = fetch(`${own.url}/api/images`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(LONG),
  })
  await eventually(async () => expect(await doomed.metric('diffusers_runtime_in_flight')).toBe(1))
  doomed.child.kill('SIGKILL')
  const failed = await call
  expect(failed.status).toBe(502)
  expect(await failed.json()).toMatchObject({ code: 'runtime_failed' })
  const next = await fetch(`${own.url}/api/images`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(REQUEST),
  })
  expect(next.status).toBe(503)
  expect(await next.json()).toMatchObject({ code: 'runtime_unavailable' })
  await own.stop()
})
