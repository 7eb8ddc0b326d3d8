/** What the Deno image may do, by the options in the Dockerfile: its server can keep pictures in a folder. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { denoAsImage } from '../support/deno-image.ts'
import { SIMULATED, start } from '../support/process.ts'
import { call } from '../support/replicas.ts'

let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'data-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

/** Starts the server as the image does, with `folder` in the place of /data. */
function startAsImage(directory: string) {
  const { command, options } = denoAsImage(folder)
  return start({
    command,
    args: [...options, 'src/main.deno.ts'],
    env: {
      PORT: '0',
      IMAGES_BACKEND: 'filesystem',
      IMAGES_DIR: directory,
      RUNTIMES: SIMULATED,
      DRAIN_DELAY_MS: '0',
    },
  })
}

test.each(['.', 'pictures'])('pictures in %s of the folder that the image may write to', async (within) => {
  const directory = join(folder, within)
  const server = await startAsImage(directory)
  try {
    const body = { prompt: 'a folder', width: 64, height: 64, num_inference_steps: 1 }
    expect(await call(server, '/api/images', { body })).toMatchObject({ status: 200, state: 'succeeded' })
    expect(readdirSync(directory).filter((name) => name.endsWith('.image'))).toHaveLength(1)
    expect((await fetch(`${server.url}/ready`)).status).toBe(200)
  } finally {
    await server.stop()
  }
})

test('elsewhere it does not start, and says where it may write', async () => {
  const elsewhere = mkdtempSync(join(tmpdir(), 'elsewhere-'))
  await expect(startAsImage(elsewhere)).rejects.toThrow(
    /cannot be used \(NotCapable\)\. Deno was not allowed to write there: let IMAGES_DIR name a folder within/,
  )
  rmSync(elsewhere, { recursive: true })
})
