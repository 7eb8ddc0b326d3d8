/** The embedded model on both engines: the very same picture, from a real server process. */
import { createHash } from 'node:crypto'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Engine, ROOT, type Running, startServer } from '../support/process.ts'

/** SHA-256 of the pixels that every engine must draw. WebAssembly leaves no room for another result. */
const PIXELS = 'e37e41d7b26db510ae5ee891b59816e88c3f60260d91f38287de26453c80ae00'

/** The suite for one engine. */
export function embeddedContract(engine: Engine): void {
  let server: Running

  beforeAll(async () => {
    const options = { folder: `${ROOT}test/fixtures/embedded-model` }
    server = await startServer(engine, {
      LOG_LEVEL: 'info',
      RUNTIMES: JSON.stringify([{ name: 'icons', kind: 'embedded', options }]),
    })
  })
  afterAll(() => server?.stop())

  const draw = (body: object) =>
    fetch(`${server.url}/api/images`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'image/png' },
      body: JSON.stringify(body),
    })

  test('the same request gives the same pixels as on every other engine', async () => {
    const response = await draw({
      prompt: 'a red circle',
      width: 96,
      height: 64,
      num_inference_steps: 5,
      seed: 7,
    })
    expect(response.status).toBe(200)
    const { data, info } = await sharp(await response.arrayBuffer())
      .raw()
      .toBuffer({ resolveWithObject: true })
    expect(info).toMatchObject({ width: 96, height: 64 })
    expect(createHash('sha256').update(data).digest('hex')).toBe(PIXELS)
  })

  test('the server is ready once the model is loaded, and says what drew the picture', async () => {
    await expect.poll(async () => (await fetch(`${server.url}/ready`)).status, { timeout: 25_000 }).toBe(200)
    const response = await fetch(`${server.url}/api/images`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'a star', width: 64, height: 64, num_inference_steps: 2, seed: 1 }),
    })
    expect(JSON.stringify(await response.json())).toContain('test-model')
  })
}
