/** The embedded model on both engines: what a server draws that was told nothing, and when it loads the model. */
import { createHash } from 'node:crypto'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { drawn, stdioClients } from '../support/clients.ts'
import { dominantColour } from '../support/colours.ts'
import { eventually } from '../support/eventually.ts'
import {
  cleanEnv,
  commandFor,
  type Engine,
  ROOT,
  type Running,
  SIMULATED,
  start,
  startServer,
} from '../support/process.ts'

/** SHA-256 of the pixels that every engine must draw with the shipped weights. WebAssembly leaves no room for others. */
const PIXELS = '1a05ccdd3a9e2570ae80dee2817aa397036986a02387a245b8aa1dd499185f2c'
const RED_CAR = { prompt: 'a red car', seed: 7, width: 64, height: 64 }

/** Longer than a busy machine takes to load the model and to draw, which is more than the wait budget. */
const PATIENT = { prefer: 'wait=80' }

const post = (url: string, body: object, headers: Record<string, string> = {}) =>
  fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
const png = async (server: Running, body: object) => {
  const response = await post(`${server.url}/api/images`, body, { ...PATIENT, accept: 'image/png' })
  expect(response.status).toBe(200)
  return Buffer.from(await response.arrayBuffer())
}
const readiness = async (server: Running) => {
  const response = await fetch(`${server.url}/ready`)
  const { dependencies } = (await response.json()) as {
    dependencies: Record<string, { ok: boolean; message?: string }>
  }
  return { status: response.status, model: dependencies['runtime:icons'] }
}

/** The suite for one engine. */
export function embeddedContract(engine: Engine): void {
  const entry = commandFor(engine, `src/main.${engine}.ts`)

  describe('a server that was told nothing', () => {
    let server: Running
    beforeAll(async () => {
      server = await start({ ...entry, env: { PORT: '0' } })
    })
    afterAll(() => server?.stop())

    test.each(['red', 'green', 'blue'])('draws a %s car in that colour', async (colour) => {
      const picture = await png(server, { ...RED_CAR, prompt: `a ${colour} car` })
      expect(await dominantColour(picture)).toBe(colour)
    })

    test('draws the same pixels for the same request as on every other engine', async () => {
      const { data, info } = await sharp(await png(server, { ...RED_CAR, width: 96 }))
        .raw()
        .toBuffer({ resolveWithObject: true })
      expect(info).toMatchObject({ width: 96, height: 64 })
      expect(createHash('sha256').update(data).digest('hex')).toBe(PIXELS)
    })

    test('says what drew the picture, in the answer and in the file', async () => {
      const answer = await (await post(`${server.url}/api/images`, RED_CAR, PATIENT)).json()
      expect(answer).toMatchObject({ target: 'icons', model: 'icons-64' })
      expect((await png(server, RED_CAR)).toString('latin1')).toContain('"model":"icons-64"')
    })

    test('tells agents what it can draw', async () => {
      const { tools } = (await (await post(`${server.url}/api/tools/list`, {})).json()) as {
        tools: { name: string; description: string }[]
      }
      const generate = tools.find(({ name }) => name === 'generate_image')
      expect(generate?.description).toMatch(/default model is icons\. Draws one small icon .* 626 things/)
      const listed = await post(`${server.url}/api/tools/execute`, { tool: 'list_image_models', params: {} })
      expect(await listed.json()).toMatchObject({
        data: { models: [{ name: 'icons', default: true, description: expect.stringContaining('icon') }] },
      })
    })

    test('is ready', async () => {
      await eventually(async () => {
        expect(await readiness(server)).toMatchObject({ status: 200, model: { ok: true } })
      })
    })
  })

  test('an MCP host that starts a server with nothing configured gets a picture of the words', async () => {
    const connect = stdioClients(engine)['current SDK over stdio, 2026-07-28']!
    const client = await connect({ url: '', env: {} })
    try {
      const { content } = await drawn(client, { name: 'generate_image', arguments: RED_CAR })
      const picture = content.find(({ type }) => type === 'image')
      expect(await dominantColour(Buffer.from(picture!.data!, 'base64'))).toBe('red')
    } finally {
      await client.close()
    }
  })

  // A model that breaks when it is loaded shows when that is.
  describe('a broken model', () => {
    const running: Running[] = []
    let folder: string
    const broken = () => JSON.stringify([{ name: 'icons', kind: 'embedded', options: { folder } }])
    const startBroken = async (env: Record<string, string>) => {
      const server = await startServer(engine, { RUNTIMES: broken(), ...env })
      running.push(server)
      return server
    }
    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'broken-model-'))
      for (const name of readdirSync(join(ROOT, 'model/weights'))) writeFileSync(join(folder, name), 'broken')
    })
    afterAll(async () => {
      await Promise.all(running.map((server) => server.stop()))
      rmSync(folder, { recursive: true })
    })

    test('is found out at the start, for it is loaded then', async () => {
      const { log } = await startBroken({})
      await eventually(() => {
        const said = { name: 'runtime:icons', ok: false, message: expect.stringContaining('model/README.md') }
        expect(log).toContainEqual(expect.objectContaining(said))
      })
    })

    test('is not loaded beside data tools before a picture is asked for', async () => {
      const data = await startBroken({ TRINO_URL: 'http://127.0.0.1:9', TRINO_USER: 'nobody' })
      expect(await readiness(data)).toMatchObject({ status: 200, model: { ok: true } })
      const refused = await post(`${data.url}/api/images`, RED_CAR)
      expect(refused.status).toBe(503)
      expect(await refused.json()).toMatchObject({ code: 'runtime_unavailable' })
      await eventually(async () => {
        expect(await readiness(data)).toMatchObject({ status: 503, model: { ok: false } })
      })
    })

    test('is not loaded over stdio before a picture is asked for', async () => {
      const client = new Client({ name: 'test', version: '1' })
      const transport = new StdioClientTransport({
        ...commandFor(engine, 'src/main.stdio.ts'),
        env: cleanEnv({ RUNTIMES: broken() }),
        stderr: 'pipe',
      })
      let log = ''
      transport.stderr?.on('data', (chunk) => {
        log += chunk
      })
      await client.connect(transport)
      try {
        const refused = await client.callTool({ name: 'generate_image', arguments: RED_CAR })
        expect(refused).toMatchObject({ isError: true })
        await eventually(() => expect(log).toContain('"job ended"'))
        // It would stand before that, had the model been loaded at the start.
        expect(log).not.toContain('runtime:icons')
      } finally {
        await client.close()
      }
    })
  })

  describe('without the optional packages', () => {
    const advice = /npm install --include=optional.*DIFFUSERS_RUNTIME_URL.*"kind":"simulated"/
    const running: Running[] = []
    let folder: string
    const startBare = async (env: Record<string, string>) => {
      const args = entry.args.map((arg) => arg.replace(ROOT, `${folder}/`))
      const server = await start({ command: entry.command, args, cwd: folder, env: { PORT: '0', ...env } })
      running.push(server)
      return server
    }
    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'no-optional-'))
      for (const name of ['src', 'package.json', 'deno.json'])
        cpSync(join(ROOT, name), join(folder, name), { recursive: true })
      mkdirSync(join(folder, 'node_modules'))
      for (const name of readdirSync(join(ROOT, 'node_modules')))
        if (!['onnxruntime-web', 'sharp', '.bin'].includes(name))
          symlinkSync(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name))
    })
    afterAll(async () => {
      await Promise.all(running.map((server) => server.stop()))
      rmSync(folder, { recursive: true })
    })

    test('the server starts, and log, readiness and calls say what to type', async () => {
      const server = await startBare({})
      await eventually(() => {
        expect(server.log).toContainEqual(expect.objectContaining({ message: expect.stringMatching(advice) }))
      })
      expect(await readiness(server)).toMatchObject({
        status: 503,
        model: { ok: false, message: expect.stringMatching(advice) },
      })
      const refused = await post(`${server.url}/api/images`, RED_CAR)
      expect(refused.status).toBe(503)
      expect(await refused.json()).toMatchObject({ detail: expect.stringMatching(advice) })
    })

    test('the way out that they name leads out', async () => {
      const server = await startBare({ RUNTIMES: SIMULATED })
      expect(await sharp(await png(server, RED_CAR)).metadata()).toMatchObject({ width: 64, height: 64 })
    })
  })
}
