/**
 * `npm run bench`: what the server costs beside the least that is possible, as ratios of one run. Goals come from
 * the project's performance targets. `-- --quick` takes fewer and smaller rounds.
 */
import { cpus } from 'node:os'
import { SignJWT } from 'jose'
import { type Running, startServer } from '../test/support/process.ts'
import { type Held, heldByConnections } from './connections.ts'
import { type Measured, median, post, sideBySide } from './measure.ts'
import {
  abortedDownloads,
  addedP50,
  baseline,
  eventLoopDelay,
  inFlight,
  mcpRequest,
  pidOf,
  type Relayed,
  relay,
  toolCall,
} from './pictures.ts'
import { startProbed } from './probed.ts'

const QUICK = process.argv.includes('--quick')
const ROUNDS = QUICK ? 2 : 7
const TOKEN = 'a-token-for-the-bench-only'
/** Nobody asks for a picture where what is measured has none. */
const UNUSED_RUNTIME = { DIFFUSERS_RUNTIME_URL: 'http://127.0.0.1:9' }
const running: Running[] = []

const keep = async (started: Promise<Running>) => {
  const process_ = await started
  running.push(process_)
  return process_
}
const server = (env: Record<string, string>) =>
  keep(
    startServer('node', {
      ...{ LOG_LEVEL: 'info', RATE_LIMIT_PER_MINUTE: '10000000' },
      ...UNUSED_RUNTIME,
      ...env,
    }),
  )

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
  const bare = await keep(baseline('bare-sdk'))
  const [open, token, jwt] = await Promise.all([server({}), server({ MCP_AUTH_TOKEN: TOKEN }), server(JWT)])
  const signed = await new SignJWT({ scope: 'image:read' })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject('bench')
    .setIssuer(JWT.AUTH_JWT_ISSUER)
    .setAudience(JWT.AUTH_JWT_AUDIENCE)
    .setExpirationTime('1h')
    .sign(new TextEncoder().encode(JWT.AUTH_JWT_SECRET))
  const variant = (process_: Running, tool: string, bearer?: string) => {
    const { body, headers } = toolCall(tool)
    const authorization: Record<string, string> = bearer ? { authorization: `Bearer ${bearer}` } : {}
    return {
      name: tool,
      pid: pidOf(process_),
      call: async () => void (await post(`${process_.url}/mcp`, body, { ...headers, ...authorization })),
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
    const fresh = await keep(startProbed(entry, UNUSED_RUNTIME))
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
  const calls = QUICK ? 60 : 200
  const ratio = ({ cpu: { ours, floor } }: Relayed) => figure(median(perRound(ours.cpuMs, floor.cpuMs)))
  const cpu = ({ cpu: { ours, floor } }: Relayed) =>
    `${figure(median(ours.cpuMs))} ms / ${figure(median(floor.cpuMs))} ms`
  const added = (relayed: Relayed) => `${figure(addedP50(relayed, 'ours'))} ms`
  const p50 = (relayed: Relayed) => {
    const { ours, direct } = relayed.time
    const floor = `the pass-through adds ${figure(addedP50(relayed, 'floor'))} ms`
    return `${figure(median(ours.p50Ms))} ms - ${figure(median(direct.p50Ms))} ms; ${floor}`
  }
  const one = await relay({ bytes: 1_000_000, over: 'rest', rounds: ROUNDS, calls })
  const five = await relay({ bytes: 5_000_000, over: 'rest', rounds: ROUNDS, calls: Math.round(calls / 4) })
  row('REST raw PNG: CPU per 1 MB picture / Node pass-through', ratio(one), '<= 1.2', cpu(one))
  row('the same: added p50 over the runtime called directly, 1 MB', added(one), '<= 1.5 ms', p50(one))
  const furtherMb = (by: 'ours' | 'floor') => `${figure((addedP50(five, by) - addedP50(one, by)) / 4)} ms`
  row(
    'the same: added p50 per further MB',
    furtherMb('ours'),
    '<= 0.3 ms',
    `the pass-through ${furtherMb('floor')}; 5 MB: ${added(five)}, CPU ${ratio(five)} of the pass-through`,
  )
  const streamed = await relay({ bytes: 1_000_000, streamed: true, over: 'rest', rounds: ROUNDS, calls })
  row('the runtime answers by an event stream: CPU / Node pass-through', ratio(streamed), '', cpu(streamed))
  row('the same: added p50', added(streamed), '', p50(streamed))
  const shown = { over: 'mcp', rounds: ROUNDS } as const
  const inline = await relay({ ...shown, bytes: 690_000, calls })
  row('MCP, 0.69 MB inline: CPU / Node pass-through', ratio(inline), '', cpu(inline))
  row('the same: added p50', added(inline), '', p50(inline))
  const preview = await relay({ ...shown, bytes: 1_000_000, calls: Math.round(calls / 10) })
  row('MCP, preview of 1 MB: CPU / Node pass-through', ratio(preview), '', cpu(preview))
  row('the same: added p50', added(preview), '', p50(preview))
  const delay = await eventLoopDelay(calls)
  row(
    '1 MB pictures, 4 at once: event-loop delay, p99',
    `${delay.ours.delay_p99.toFixed(1)} ms`,
    '',
    `p50 ${delay.ours.delay_p50.toFixed(1)} ms; pass-through ${delay.floor.delay_p50.toFixed(1)}, ${delay.floor.delay_p99.toFixed(1)} ms`,
  )
  const mib = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`
  const flying = await inFlight(QUICK ? 5 : 20)
  row('16 x 1 MB in flight: peak RSS', mib(flying.peak), '<= 200 MB', `${mib(flying.idle)} before the first`)
  const aborted = await abortedDownloads(QUICK ? 300 : 1000)
  row(
    `${QUICK ? 300 : 1000} aborted downloads of 8 MB: RSS after / before`,
    figure(aborted.after / aborted.before),
    '<= 1.1',
    `${mib(aborted.after)} / ${mib(aborted.before)}, and the next call succeeds`,
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
  const { body, headers } = mcpRequest('subscriptions/listen', { notifications: { toolsListChanged: true } })
  // Reads to the end: a stream that is held would keep the bench here until the client's own limit.
  await post(`${(await server({})).url}/mcp`, body, headers)
  row('idle MCP listen stream', 'none', '<= 25 KiB', 'ended at once: this server has no changes to announce')
  compare('tools/call: CPU, JWT verified before / without authentication', tool.withJwt, tool.anonymous, '')
} finally {
  await Promise.all(running.map((one) => one.stop()))
}
