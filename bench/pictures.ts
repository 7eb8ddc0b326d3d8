/** What a picture costs on its way from the runtime to the client: CPU, time, memory, and the event loop's delay. */
import { request } from 'undici'
import { type Running, start } from '../test/support/process.ts'
import { drive, type Measured, median, peakRss, post, sideBySide, type Variant } from './measure.ts'
import { type Probed, probe, startProbed } from './probed.ts'

const PREDICT = '/v1/models/model:predict'
/** Without a seed: a seeded request would be answered from the store the second time. */
const REQUEST = JSON.stringify({ prompt: 'a' })
const MODERN = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'bench', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
}

export const pidOf = ({ child }: Running) => child.pid as number

/** Body and headers of a request in the current era of MCP. */
export function mcpRequest(method: string, params: Record<string, unknown>, name?: string) {
  return {
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params: { ...params, _meta: MODERN } }),
    headers: {
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': method,
      ...(name === undefined ? {} : { 'mcp-name': name }),
    },
  }
}

/** Body and headers of a `tools/call`. */
export const toolCall = (tool: string, args: Record<string, unknown> = {}) =>
  mcpRequest('tools/call', { name: tool, arguments: args }, tool)

/** One of `bench/baselines`, as a process. */
export function baseline(name: string, env: Record<string, string> = {}): Promise<Running> {
  return start({ command: process.execPath, args: [`bench/baselines/${name}.ts`], env })
}

interface Upstream {
  readonly runtime: Running
  readonly passThrough: Running
  readonly server: Running
  stop(): Promise<void>
}

/** A runtime with a picture of `bytes`, and before it a pass-through and the server. */
async function relayOf(bytes: number, { streamed = false } = {}): Promise<Upstream> {
  const runtime = await baseline('fixed-runtime', { BYTES: String(bytes), STREAMED: String(streamed) })
  const [passThrough, server] = await Promise.all([
    startProbed('bench/baselines/pass-through.ts', { UPSTREAM: runtime.url }),
    startProbed('src/main.node.ts', {
      DIFFUSERS_RUNTIME_URL: runtime.url,
      DIFFUSERS_RUNTIME_CONCURRENCY: '16',
    }),
  ])
  return {
    runtime,
    passThrough,
    server,
    stop: async () => void (await Promise.all([server, passThrough, runtime].map((one) => one.stop()))),
  }
}

/** Raw PNG over REST. @throws Error for an answer that is smaller than the picture. */
async function raw(server: Running, bytes: number): Promise<void> {
  const size = await post(`${server.url}/api/images`, REQUEST, { accept: 'image/png' })
  if (size < bytes * 0.95) throw new Error(`a picture of only ${size} bytes`)
}

/** The runtime called directly, and a pass-through to it: what every relay is measured by. */
function floors({ runtime, passThrough }: Upstream): Variant[] {
  return [
    {
      name: 'the runtime called directly',
      pid: pidOf(runtime),
      call: async () => void (await post(runtime.url + PREDICT, '{"instances":[{"prompt":"a"}]}')),
    },
    {
      name: 'pass-through',
      pid: pidOf(passThrough),
      call: async () => void (await post(passThrough.url, REQUEST)),
    },
  ]
}

/** CPU with 4 calls at once; times with one at a time, since waiting for each other is not what the server adds. */
export interface Relayed {
  readonly cpu: { readonly floor: Measured; readonly ours: Measured }
  readonly time: { readonly direct: Measured; readonly floor: Measured; readonly ours: Measured }
}

type Three = [Measured, Measured, Measured]

/**
 * CPU and time of a picture of `bytes`: as raw PNG over REST, or in the answer of an MCP tool. `streamed`: to those
 * that take one, the runtime answers by an event stream, as the Python runtime does.
 */
export async function relay(options: {
  readonly bytes: number
  readonly streamed?: boolean
  readonly over: 'rest' | 'mcp'
  readonly rounds: number
  readonly calls: number
}): Promise<Relayed> {
  const { bytes, streamed = false, over, rounds, calls } = options
  const upstream = await relayOf(bytes, { streamed })
  const { server } = upstream
  const { body, headers } = toolCall('generate_image', { prompt: 'a' })
  try {
    const variants = [
      ...floors(upstream),
      {
        name: over,
        pid: pidOf(server),
        call: async () =>
          over === 'rest' ? await raw(server, bytes) : void (await post(`${server.url}/mcp`, body, headers)),
      },
    ] as const
    const [, floor, ours] = (await sideBySide({ variants, rounds, calls, concurrency: 4 })) as Three
    const alone = { variants, rounds, calls: Math.ceil(calls / 2), concurrency: 1 }
    const [direct, floorAlone, oursAlone] = (await sideBySide(alone)) as Three
    return { cpu: { floor, ours }, time: { direct, floor: floorAlone, ours: oursAlone } }
  } finally {
    await upstream.stop()
  }
}

/** Milliseconds that the server, or the pass-through, adds to the median time of a call to the runtime. */
export function addedP50({ time }: Relayed, by: 'ours' | 'floor'): number {
  return median(time[by].p50Ms.map((ms, round) => ms - (time.direct.p50Ms[round] as number)))
}

/** How late the event loop's timers are while pictures of 1 MB pass, 4 at once. */
export async function eventLoopDelay(calls: number): Promise<{ floor: Probed; ours: Probed }> {
  const bytes = 1_000_000
  const upstream = await relayOf(bytes)
  const { passThrough, server } = upstream
  const [, floor] = floors(upstream) as [Variant, Variant]
  try {
    const load = async () => {
      await drive({ call: floor.call, calls, concurrency: 4 })
      await drive({ call: () => raw(server, bytes), calls, concurrency: 4 })
    }
    await load()
    // Asking begins a new count: starting and compiling are not in it.
    await Promise.all([probe(passThrough), probe(server)])
    await load()
    return { floor: await probe(passThrough), ours: await probe(server) }
  } finally {
    await upstream.stop()
  }
}

/**
 * Peak resident memory, in bytes: 16 pictures of 1 MB at once, `waves` times, with a store that keeps no more, and with
 * the image's setting for Node.
 */
export async function inFlight(waves: number): Promise<{ idle: number; peak: number }> {
  const bytes = 1_000_000
  const runtime = await baseline('fixed-runtime', { BYTES: String(bytes) })
  const server = await start({
    command: process.execPath,
    args: ['src/main.node.ts'],
    env: {
      ...{ PORT: '0', LOG_LEVEL: 'info', RATE_LIMIT_PER_MINUTE: '0', IMAGES_MAX_BYTES: String(2 ** 24) },
      ...{ DIFFUSERS_RUNTIME_URL: runtime.url, DIFFUSERS_RUNTIME_CONCURRENCY: '16' },
      NODE_OPTIONS: '--max-semi-space-size=8',
    },
  })
  try {
    const idle = peakRss(pidOf(server))
    await drive({ call: () => raw(server, bytes), calls: 16 * waves, concurrency: 16 })
    return { idle, peak: peakRss(pidOf(server)) }
  } finally {
    await Promise.all([server.stop(), runtime.stop()])
  }
}

/**
 * Resident memory before and after clients that leave in the middle of a download, in bytes after garbage collection.
 * @throws Error when the server does not answer the next call.
 */
export async function abortedDownloads(count: number): Promise<{ before: number; after: number }> {
  // Larger than what sockets buffer, so that leaving cuts it off.
  const bytes = 8_000_000
  const upstream = await relayOf(bytes)
  const { server } = upstream
  const abort = async () => {
    const { body, statusCode } = await request(`${server.url}/api/images`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'image/png' },
      // With a seed, so that one stored picture is sent each time.
      body: '{"prompt":"a","seed":1}',
    })
    if (statusCode !== 200) throw new Error(`a download began with ${statusCode}`)
    body.on('error', () => {})
    await new Promise((resolve) => body.once('data', resolve))
    body.destroy()
  }
  try {
    await drive({ call: abort, calls: count, concurrency: 16 })
    const { rss: before } = await probe(server)
    await drive({ call: abort, calls: count, concurrency: 16 })
    const { rss: after } = await probe(server)
    await raw(server, bytes)
    return { before, after }
  } finally {
    await upstream.stop()
  }
}
