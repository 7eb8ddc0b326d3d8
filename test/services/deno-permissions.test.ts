/** The permissions of the Deno image are enough for what the server does, and for nothing else. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { denoAsImage } from '../support/deno-image.ts'
import { cleanEnv, ROOT, type Running, start } from '../support/process.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'data-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

describe('the server', () => {
  let server: Running
  beforeAll(async () => {
    const { command, options } = denoAsImage(folder)
    server = await start({
      command,
      args: [...options, 'src/main.deno.ts'],
      // Without RUNTIMES: its own model, which draws in a thread with WebAssembly.
      env: { PORT: '0', IMAGES_BACKEND: 'filesystem', IMAGES_DIR: folder, DRAIN_DELAY_MS: '0' },
    })
  })
  afterAll(() => server?.stop())

  test('draws with its own model, makes a preview, and measures itself', async () => {
    const answer = await fetch(`${server.url}/api/images`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'a red heart', width: 64, height: 64, num_inference_steps: 2 }),
    })
    const { url } = (await answer.json()) as { url: string }
    expect((await fetch(url)).status).toBe(200)
    const preview = await fetch(`${server.url}${new URL(url).pathname}?variant=preview`)
    expect([preview.status, preview.headers.get('content-type')]).toEqual([200, 'image/webp'])
    expect(await (await fetch(`${server.url}/metrics`)).text()).toMatch(/^process_resident_memory_bytes \d/m)
  })
})

test.each<[string, string]>([
  ['reads no file elsewhere', "Deno.readTextFileSync('/etc/passwd')"],
  ['reads no token of a service account', "Deno.readTextFileSync('/run/secrets/kubernetes.io/token')"],
  ['writes no file elsewhere', "Deno.writeTextFileSync('/tmp/foreign', '')"],
  ['changes none of its own code', "Deno.writeTextFileSync('package.json', '')"],
  ['runs no program', "new Deno.Command('/bin/true').outputSync()"],
  ['loads no other library', "Deno.dlopen('/usr/lib/x86_64-linux-gnu/libc.so.6', {})"],
  ['learns nothing of the machine', 'Deno.networkInterfaces()'],
])('it %s', (_, code) => {
  const { command, options } = denoAsImage(folder)
  const probe = join(folder, 'probe.ts')
  writeFileSync(probe, code)
  const { stderr, status } = spawnSync(command, [...options, probe], { cwd: ROOT, env: cleanEnv({}) })
  expect(stderr.toString()).toContain('NotCapable')
  expect(status).toBe(1)
})
