/** What `npm pack` makes, installed like a stranger would, and what docs/ says to do with it. */
import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Client } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AnyClient, drawn } from '../support/clients.ts'
import { dominantColour } from '../support/colours.ts'
import { cleanEnv, commandFor, ROOT, type Running, start, startServer } from '../support/process.ts'

const run = promisify(execFile)
const TOKEN = 'a-token-of-an-application'
const CLIENT = 'node_modules/diffusers-mcp/dist/src/client'

/** Installs the package that was made in `folder` into a project of its own. */
async function install(where: string, ...flags: string[]): Promise<void> {
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz')) as string
  writeFileSync(join(where, 'package.json'), '{"type":"module","private":true}')
  const args = ['install', '--no-audit', '--no-fund', '--ignore-scripts', ...flags, join(folder, tarball)]
  await run('npm', args, { cwd: where })
}

let folder: string
let server: Running
let env: Record<string, string>

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'package-'))
  await run('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: ROOT })
  await install(folder)
})
beforeAll(async () => {
  server = await startServer('node', { LOG_LEVEL: 'info', MCP_AUTH_TOKEN: TOKEN })
  env = {
    PATH: process.env.PATH ?? '',
    HOME: process.env.HOME ?? '',
    MCP_SERVER_URL: `${server.url.replace('http', 'ws')}/ws`,
    MCP_AUTH_TOKEN: TOKEN,
  }
})
afterAll(async () => {
  await server?.stop()
  rmSync(folder, { recursive: true, force: true })
})

test('its client imports nothing', () => {
  const files = readdirSync(join(folder, CLIENT))
  expect(files.sort()).toEqual(['client.d.ts', 'client.js'])
  for (const file of files) expect(readFileSync(join(folder, CLIENT, file), 'utf8')).not.toMatch(/^import /m)
})

test('its declarations hold under strict', async () => {
  writeFileSync(
    join(folder, 'types.ts'),
    "import { type ExecuteResult, MCPWebSocketClient } from 'diffusers-mcp/client'\n" +
      "export const call = (): Promise<ExecuteResult> => new MCPWebSocketClient({ url: 'ws://x' }).executeTool('x')\n" +
      '// @ts-expect-error: a URL is needed\nnew MCPWebSocketClient({})\n',
  )
  const options = ['--ignoreConfig', '--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2024']
  await run(join(ROOT, 'node_modules/.bin/tsc'), [...options, '--lib', 'es2024,dom', 'types.ts'], {
    cwd: folder,
  })
})

const RED_CAR = { prompt: 'a red car', seed: 7, width: 64, height: 64 }
const startBin = (where: string) =>
  start({
    command: process.execPath,
    args: [join(where, 'node_modules/.bin/diffusers-mcp')],
    cwd: where,
    env: { PORT: '0' },
  })
const draw = (url: string) =>
  fetch(`${url}/api/images`, {
    method: 'POST',
    // Longer than a busy machine takes to load the model and to draw.
    headers: { 'content-type': 'application/json', accept: 'image/png', prefer: 'wait=80' },
    body: JSON.stringify(RED_CAR),
  })
const colourOf = async (response: Response) => await dominantColour(Buffer.from(await response.arrayBuffer()))

test('its bin is the server, which draws with the model that the package brings', async () => {
  const bin = await startBin(folder)
  try {
    expect(await colourOf(await draw(bin.url))).toBe('red')
  } finally {
    expect(await bin.stop()).toBe(0)
  }
})

test('its bin for stdio draws as well', async () => {
  const client = new Client({ name: 'test', version: '1' })
  const args = [join(folder, 'node_modules/.bin/diffusers-mcp-stdio')]
  await client.connect(
    new StdioClientTransport({ command: process.execPath, args, env: cleanEnv({}), stderr: 'ignore' }),
  )
  try {
    const params = { name: 'generate_image', arguments: RED_CAR }
    const { content } = await drawn(client as unknown as AnyClient, params)
    const picture = content.find((block) => block.type === 'image')
    expect(await dominantColour(Buffer.from(picture!.data!, 'base64'))).toBe('red')
  } finally {
    await client.close()
  }
})

test('installed without optional packages it says what to type, and that helps while it runs', async () => {
  const bare = mkdtempSync(join(tmpdir(), 'package-bare-'))
  await install(bare, '--omit=optional')
  const bin = await startBin(bare)
  try {
    const refused = await draw(bin.url)
    expect(refused.status).toBe(503)
    const { detail } = (await refused.json()) as { detail: string }
    const [, command = ''] = /type `(npm install [^`]*)`/.exec(detail) ?? []
    await run('npm', command.split(' ').slice(1), { cwd: bare })
    expect(await colourOf(await draw(bin.url))).toBe('red')
  } finally {
    await bin.stop()
    rmSync(bare, { recursive: true, force: true })
  }
}, 300_000)

describe.each(['docs/bolt-diy.md', 'docs/migrating-from-stdio.md'])('%s', (page) => {
  const blocks = [...readFileSync(join(ROOT, page), 'utf8').matchAll(/^( *)```ts\n(.*?)^ *```$/gms)]
  const source = blocks
    .map(([, indent = '', code = '']) => code.replaceAll(new RegExp(`^${indent}`, 'gm'), ''))
    .join('\n')

  test.each(['node', 'deno'] as const)('its code runs on %s', async (engine) => {
    expect(blocks.length).toBeGreaterThanOrEqual(2)
    const file = join(folder, `${page.replaceAll(/\W/g, '-')}.ts`)
    writeFileSync(file, `import process from 'node:process'\n${source}`)
    const { command, args } = commandFor(engine, '')
    const flags = engine === 'deno' ? ['--node-modules-dir=manual', '--no-lock'] : []
    const { stdout, stderr } = await run(command, [...args.slice(0, -1), ...flags, file], {
      cwd: folder,
      env,
    })
    if (page.includes('bolt')) {
      expect(stdout).toMatch(/generate_image, get_image_job/)
      expect(stdout).toMatch(/Step 1 of 4/)
      expect(stdout).toMatch(/succeeded [\w-]{36} image\/png/)
      expect(stdout).toMatch(/invalid_request/)
      expect(stderr).not.toMatch(/gave up/)
    } else expect(stdout).toMatch(/^\d+ \{"models":\[/)
  })
})

test('runs in Chromium', async ({ skip }) => {
  const chromium = await findChromium()
  if (chromium === undefined) return skip('chromium is not installed, and only root can install it')
  const told = Promise.withResolvers<string>()
  const page = createServer((request, response) => {
    if (request.method === 'POST') {
      let body = ''
      request.on('data', (chunk) => {
        body += chunk
      })
      request.on('end', () => told.resolve(body))
      response.end()
    } else if (request.url === '/client.js') {
      response.setHeader('content-type', 'text/javascript')
      response.end(readFileSync(join(folder, CLIENT, 'client.js')))
    } else {
      response.setHeader('content-type', 'text/html')
      response.end(`<!doctype html><script type="module">
        const tell = (told) => fetch('/', { method: 'POST', body: JSON.stringify(told) })
        try {
          const { MCPWebSocketClient } = await import('/client.js')
          const client = new MCPWebSocketClient({ url: '${env.MCP_SERVER_URL}', authToken: '${TOKEN}' })
          await client.connect()
          const tools = await client.listTools()
          const progress = []
          const made = await client.executeTool(
            'generate_image',
            { prompt: 'a lighthouse', width: 64, height: 64, num_inference_steps: 4 },
            { onProgress: ({ message }) => progress.push(message) },
          )
          const leave = new AbortController()
          const left = await client
            .executeTool('generate_image', { prompt: 'long', num_inference_steps: 200 }, {
              signal: leave.signal,
              onProgress: () => leave.abort(new Error('no longer wanted')),
            })
            .catch((error) => error.message)
          await client.close()
          await tell({ tools: tools.length, state: made.data.state, progress, left })
        } catch (error) {
          await tell({ error: String(error) })
        }
      </script>`)
    }
  })
  await new Promise<void>((resolve) => page.listen(0, '127.0.0.1', resolve))
  const profile = mkdtempSync(join(tmpdir(), 'chromium-'))
  const quiet = ['quic', 'background-networking', 'component-update', 'sync', 'gpu'].map(
    (w) => `--disable-${w}`,
  )
  const browser = spawn(
    chromium,
    [
      ...['--headless', '--no-sandbox', '--no-first-run', `--user-data-dir=${profile}`],
      ...quiet,
      `http://127.0.0.1:${(page.address() as AddressInfo).port}/`,
    ],
    { stdio: 'ignore' },
  )
  try {
    expect(JSON.parse(await told.promise)).toEqual({
      tools: expect.any(Number),
      state: 'succeeded',
      progress: expect.arrayContaining(['Step 1 of 4', 'Step 3 of 4']),
      left: 'no longer wanted',
    })
  } finally {
    const ended = new Promise((resolve) => browser.once('close', resolve))
    browser.kill('SIGTERM')
    await ended
    page.closeAllConnections()
    await new Promise((resolve) => page.close(resolve))
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
  }
}, 300_000)

/** Chromium. Root installs it with apt-get if it is missing; for other users it is then undefined. */
async function findChromium(): Promise<string | undefined> {
  const path = '/usr/bin/chromium'
  if (existsSync(path)) return path
  if (process.getuid?.() !== 0) return undefined
  const install = 'apt-get install -y -qq --no-install-recommends chromium'
  await run('sh', ['-c', `${install} || (apt-get update -qq && ${install})`], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    maxBuffer: 2 ** 26,
  })
  return path
}
