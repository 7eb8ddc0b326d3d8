/**
 * `npm run bench`: what the server costs beside the least that is possible, as ratios of one run. Goals come from
 * the project's performance targets. `-- --quick` takes fewer and smaller rounds.
 */
import { cpus } from 'node:os'
import { SignJWT } from 'jose'
import { type Running, start, startServer } from '../test/support/process.ts'
import { type Held, heldByConnections, startProbed } from './connections.ts'
import { type Measured, median, post, sideBySide } from './measure.ts'

const QUICK = process.argv.includes('--quick')
const ROUNDS = QUICK ? 3 : 7
const TOKEN = 'a-token-for-the-bench-only'
const running: Running[] = []

const baseline = async (name: string, env: Record<string, string> = {}) => {
  const process_ = await start({ command: process.execPath, args: [`bench/baselines/${name}.ts`], env })
  running.push(process_)
  return process_
}
const server = async (env: Record<string, string>) => {
  const process_ = await startServer('node', { LOG_LEVEL: 'info', RATE_LIMIT_PER_MINUTE: '10000000', ...env })
  running.push(process_)
  return process_
}
const pidOf = ({ child }: Running) => child.pid as number

/** CPU and added latency of a 1 MB picture: raw PNG over REST beside a pass-through of the same bytes. */
async function relay() {
  const runtime = await baseline('fixed-runtime')
  const passThrough = await baseline('pass-through', { UPSTREAM: runtime.url })
  const product = await server({ DIFFUSERS_RUNTIME_URL: runtime.url, DIFFUSERS_RUNTIME_CONCURRENCY: '8' })
  // Without a seed: a seeded request would be answered from the store the second time.
  const request = JSON.stringify({ prompt: 'a' })
  const [direct, floor, ours] = await sideBySide({
    rounds: ROUNDS,
    calls: QUICK ? 60 : 200,
    concurrency: 4,
    variants: [
      {
        name: 'the runtime called directly',
        pid: pidOf(runtime),
        call: async () =>
          void (await post(`${runtime.url}/v1/models/model:predict`, '{"instances":[{"prompt":"a"}]}')),
      },
      {
        name: 'pass-through',
        pid: pidOf(passThrough),
        call: async () => void (await post(passThrough.url, request)),
      },
      {
        name: 'REST raw PNG',
        pid: pidOf(product),
        async call() {
          const size = await post(`${product.url}/api/images`, request, { accept: 'image/png' })
          if (size < 1_000_000) throw new Error(`a picture of only ${size} bytes`)
        },
      },
    ],
  })
  return { direct, floor, ours } as Record<'direct' | 'floor' | 'ours', Measured>
}

const JWT = {
  AUTH_JWT_SECRET: 'a-shared-secret-for-the-bench-only',
  AUTH_JWT_ISSUER: 'https://issuer.example',
  AUTH_JWT_AUDIENCE: 'https://mcp.example.com/mcp',
}

/**
 * CPU of a trivial `tools/call` with all middleware: to a server without authentication, with a static token, and with
 * a JWT that was verified before, beside the bare SDK handler.
 */
async function toolsCall() {
  const bare = await baseline('bare-sdk')
  const [open, token, jwt] = await Promise.all([server({}), server({ MCP_AUTH_TOKEN: TOKEN }), server(JWT)])
  const signed = await new SignJWT({ scope: 'image:read' })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject('bench')
    .setIssuer(JWT.AUTH_JWT_ISSUER)
    .setAudience(JWT.AUTH_JWT_AUDIENCE)
    .setExpirationTime('1h')
    .sign(new TextEncoder().encode(JWT.AUTH_JWT_SECRET))
  const variant = (process_: Running, tool: string, bearer?: string) => {
    const body = JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: {
        name: tool,
        arguments: {},
        _meta: {
          'io.modelcontextprotocol/protocolVersion': '2026-07-28',
          'io.modelcontextprotocol/clientInfo': { name: 'bench', version: '1' },
          'io.modelcontextprotocol/clientCapabilities': {},
        },
      },
    })
    const headers = {
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'tools/call',
      'mcp-name': tool,
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
    }
    return {
      name: tool,
      pid: pidOf(process_),
      call: async () => void (await post(`${process_.url}/mcp`, body, headers)),
    }
  }
  const measured = await sideBySide({
    rounds: ROUNDS,
    calls: QUICK ? 500 : 2000,
    concurrency: 8,
    variants: [
      variant(bare, 'trivial'),
      variant(open, 'list_image_models'),
      variant(token, 'list_image_models', TOKEN),
      variant(jwt, 'list_image_models', signed),
    ],
  })
  const [floor, anonymous, withToken, withJwt] = measured as [Measured, Measured, Measured, Measured]
  return { floor, anonymous, withToken, withJwt }
}

const INITIALIZE = [
  {
    id: 1,
    method: 'initialize',
    params: {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'bench', version: '1' },
    },
  },
  { method: 'notifications/initialized' },
].map((message) => JSON.stringify({ jsonrpc: '2.0', ...message }))

/** Memory of idle WebSocket connections: before a word was said and after the handshake, beside bare `ws`. */
async function idleConnections() {
  // A thousand would mostly measure how the young generation grows.
  const count = QUICK ? 1000 : 5000
  const measure = async (entry: string, path: string, messages: readonly string[] = []) => {
    const fresh = await startProbed(entry)
    running.push(fresh)
    return await heldByConnections(fresh, { path, count, messages })
  }
  return {
    floor: await measure('bench/baselines/bare-ws.ts', '/'),
    silent: await measure('src/main.node.ts', '/ws'),
    greeted: await measure('src/main.node.ts', '/ws', INITIALIZE),
  }
}

const perRound = (ours: readonly number[], floor: readonly number[]) =>
  ours.map((value, round) => value / (floor[round] as number))
const figure = (value: number) => value.toFixed(2)
const row = (what: string, value: string, goal: string, detail: string) =>
  console.log(`| ${what} | ${value} | ${goal} | ${detail} |`)

try {
  console.log(`Node ${process.version}, ${cpus().length} cores, ${ROUNDS} interleaved rounds, medians.\n`)
  console.log('| what | measured | goal | detail |\n|---|---|---|---|')
  const picture = await relay()
  row(
    'REST raw PNG: CPU per 1 MB picture / Node pass-through',
    figure(median(perRound(picture.ours.cpuMs, picture.floor.cpuMs))),
    '<= 1.2',
    `${figure(median(picture.ours.cpuMs))} ms / ${figure(median(picture.floor.cpuMs))} ms`,
  )
  row(
    'REST raw PNG: added p50 over the runtime called directly, 1 MB',
    `${figure(median(picture.ours.p50Ms.map((value, round) => value - (picture.direct.p50Ms[round] as number))))} ms`,
    '<= 1.5 ms',
    `${figure(median(picture.ours.p50Ms))} ms - ${figure(median(picture.direct.p50Ms))} ms, 4 at once`,
  )
  const tool = await toolsCall()
  const microseconds = ({ cpuMs }: Measured) => `${figure(median(cpuMs) * 1000)} us`
  const compare = (what: string, ours: Measured, floor: Measured, goal: string) =>
    row(
      what,
      figure(median(perRound(ours.cpuMs, floor.cpuMs))),
      goal,
      `${microseconds(ours)} / ${microseconds(floor)}`,
    )
  compare(
    'tools/call: CPU, all middleware on, static token / bare SDK handler',
    tool.withToken,
    tool.floor,
    '<= 1.15',
  )
  compare('tools/call: CPU, static token / without authentication', tool.withToken, tool.anonymous, '')
  const idle = await idleConnections()
  const kib = (bytes: number) => `${(bytes / 1024).toFixed(1)} KiB`
  const hold = (what: string, { held, rss }: Held, goal: string) =>
    row(
      what,
      kib(rss),
      goal,
      `${figure(rss / idle.floor.rss)} of bare ws (${kib(idle.floor.rss)}); heap ${kib(held)} / ${kib(idle.floor.held)}`,
    )
  hold('idle WebSocket: RSS per connection', idle.silent, '<= 13 KiB')
  hold('the same after the handshake of MCP', idle.greeted, '')
  compare('tools/call: CPU, JWT verified before / without authentication', tool.withJwt, tool.anonymous, '')
} finally {
  await Promise.all(running.map((one) => one.stop()))
}
