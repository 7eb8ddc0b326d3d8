/** Clients that call, drop, abort and send half bodies for a while, and what the server looks like afterwards. Linux. */
import { readdirSync, readFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { eventually } from './eventually.ts'
import { type Engine, startServer } from './process.ts'

/** A picture takes so long, in milliseconds; clients leave at a random time within twice of it. */
const SERVICE_MS = 100
/** More than all socket buffers between the server and a client that does not read. */
const LARGE_BYTES = 16 * 2 ** 20
/** Pictures and ended jobs are kept for so long, in seconds, so that what is kept soon stops growing. */
const KEPT_SECONDS = 60
const PICTURE = { prompt: 'a lighthouse', width: 64, height: 64, num_inference_steps: 4 }
const JSON_TYPE = { 'content-type': 'application/json' }
const CALL = {
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: { name: 'generate_image', arguments: PICTURE },
}
const META = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'soak', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
}
const MODERN_CALL = { ...CALL, params: { ...CALL.params, _meta: META } }
const STREAM = { ...JSON_TYPE, accept: 'application/json, text/event-stream' }
const MODERN = {
  ...STREAM,
  'mcp-protocol-version': '2026-07-28',
  'mcp-method': 'tools/call',
  'mcp-name': 'generate_image',
}

export interface Sample {
  /** Seconds since the load began. */
  readonly at: number
  /** Bytes. */
  readonly rss: number
  /** Open descriptors. */
  readonly fds: number
}

export interface SoakReport {
  /** How often each thing happened. */
  readonly events: Readonly<Record<string, number>>
  /** Complete calls whose answer was not what it should be. */
  readonly failures: readonly string[]
  /** Before the load. */
  readonly before: Sample
  /** During the load, in equal distances; the last one is its end. */
  readonly during: readonly Sample[]
  /** After the load, when nothing is queued and the descriptors of the clients are closed. */
  readonly after: Sample
  /** Log lines above the level `info`. */
  readonly complaints: readonly Record<string, unknown>[]
  /** Requests by status, from /metrics. */
  readonly statuses: Readonly<Record<string, number>>
  /** Bytes of the log. */
  readonly logBytes: number
}

/** Runs a server under `perSecond` events for `seconds`, then lets it be idle for `idleSeconds`. */
export async function soak(options: {
  readonly engine: Engine
  readonly seconds: number
  readonly perSecond: number
  readonly idleSeconds: number
  readonly onSample?: (sample: Sample) => void
}): Promise<SoakReport> {
  const { engine, seconds, perSecond, idleSeconds, onSample } = options
  const server = await startServer(engine, {
    LOG_LEVEL: 'info',
    RATE_LIMIT_PER_MINUTE: '0',
    IMAGE_TTL_SECONDS: String(KEPT_SECONDS),
    RUNTIMES: JSON.stringify([
      {
        name: 'quick',
        kind: 'simulated',
        concurrency: 2 * perSecond,
        queue: 10 * perSecond,
        options: { msPerStep: SERVICE_MS / PICTURE.num_inference_steps },
      },
      { name: 'large', kind: 'simulated', options: { msPerStep: 0, imageBytes: LARGE_BYTES } },
    ]),
  })
  try {
    const pid = server.child.pid as number
    const events: Record<string, number> = {}
    const failures: string[] = []
    const acts = actsOn(server.url, failures)
    // The first use of everything loads code, which is no leak.
    for (const act of Object.values(acts)) await act()
    await untilIdle(server.url)
    const started = performance.now()
    const since = () => (performance.now() - started) / 1000
    const sample = () => {
      const taken = { at: since(), ...sizeOf(pid) }
      onSample?.(taken)
      return taken
    }
    const before = sample()
    const during: Sample[] = []
    const pending = new Set<Promise<void>>()
    const names = Object.keys(acts)
    for (let index = 0; since() < seconds; index += 1) {
      const name = names[index % names.length] as string
      events[name] = (events[name] ?? 0) + 1
      const acting = (acts[name] as Act)().finally(() => pending.delete(acting))
      pending.add(acting)
      if (since() >= ((during.length + 1) * seconds) / 10) during.push(sample())
      await sleep(Math.max(0, ((index + 1) * 1000) / perSecond - since() * 1000))
    }
    await Promise.all(pending)
    during.push(sample())
    await untilIdle(server.url)
    await sleep(idleSeconds * 1000)
    // Kept connections of the requests above end later, and are none of the clients'.
    await eventually(() => {
      if (sizeOf(pid).fds > before.fds + 2) throw new Error(`${sizeOf(pid).fds} descriptors are open`)
    }, 10_000).catch((error) => failures.push(error.message))
    return {
      events,
      failures,
      before,
      during,
      after: sample(),
      complaints: server.log.filter(({ level }) => level !== 'info'),
      statuses: await statusesOf(server.url),
      logBytes: server.log.reduce((sum, line) => sum + JSON.stringify(line).length + 1, 0),
    }
  } finally {
    await server.stop()
  }
}

type Act = () => Promise<void>

/** What clients do, by name. Each takes a moment and ends. */
function actsOn(url: string, failures: string[]): Record<string, Act> {
  const { hostname, port } = new URL(url)
  const large = largePicture(url)
  const moment = () => sleep(Math.random() * 2 * SERVICE_MS)

  /** A call that waits for its answer. */
  const complete =
    (path: string, headers: Record<string, string>, body: object): Act =>
    async () => {
      const answer = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) })
      const bytes = (await answer.arrayBuffer()).byteLength
      if (answer.status !== 200 || bytes < 100) failures.push(`${path}: ${answer.status}, ${bytes} bytes`)
    }
  /** A call whose client leaves. */
  const abort =
    (path: string, headers: Record<string, string>, body: object): Act =>
    async () => {
      const asked = httpRequest({ hostname, port, path, method: 'POST', headers, agent: false })
      asked.on('error', () => {}).on('response', (response) => response.on('error', () => {}).resume())
      asked.end(JSON.stringify(body))
      await moment()
      asked.destroy()
    }
  const drop =
    (protocols: string[], message: object): Act =>
    async () => {
      const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`, protocols)
      socket.on('error', () => {}).on('open', () => socket.send(JSON.stringify(message)))
      await moment()
      if (Math.random() < 0.5) socket.terminate()
      else socket.close()
    }
  const halfBody =
    (path: string): Act =>
    async () => {
      const socket = connect(Number(port), hostname).on('error', () => {})
      socket.write(
        `POST ${path} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nContent-Type: application/json\r\n` +
          'Content-Length: 1000\r\n\r\n{"prompt"',
      )
      await moment()
      socket.destroy()
    }

  return {
    'picture as PNG': complete('/api/images', { ...JSON_TYPE, accept: 'image/png' }, PICTURE),
    'MCP call': complete('/mcp', MODERN, MODERN_CALL),
    'MCP call, older era': complete('/mcp', STREAM, CALL),
    'aborted JSON': abort('/api/images', JSON_TYPE, PICTURE),
    'aborted events': abort('/api/images', { ...JSON_TYPE, accept: 'text/event-stream' }, PICTURE),
    'aborted MCP call': abort('/mcp', MODERN, MODERN_CALL),
    'aborted MCP call, older era': abort('/mcp', STREAM, CALL),
    'dropped MCP WebSocket': drop(['mcp'], CALL),
    'dropped plain WebSocket': drop([], { type: 'execute_tool', tool: 'generate_image', params: PICTURE }),
    'half a body to REST': halfBody('/api/images'),
    'half a body to MCP': halfBody('/mcp'),
    async 'aborted download'() {
      const path = await large()
      const socket = connect(Number(port), hostname).on('error', () => {})
      socket.write(`GET ${path} HTTP/1.1\r\nHost: ${hostname}:${port}\r\n\r\n`)
      await new Promise((resolve) => socket.once('data', resolve))
      socket.destroy()
    },
  }
}

/** Gives the path of a picture that is longer than socket buffers, and makes another before it expires. */
function largePicture(url: string): () => Promise<string> {
  let madeAt = Number.NEGATIVE_INFINITY
  let path: Promise<string>
  const make = async () => {
    const body = JSON.stringify({ ...PICTURE, model: 'large' })
    const answer = await fetch(`${url}/api/images`, { method: 'POST', headers: JSON_TYPE, body })
    return `/images/${((await answer.json()) as { image_id: string }).image_id}`
  }
  return async () => {
    if (performance.now() - madeAt > (KEPT_SECONDS * 1000) / 2) {
      madeAt = performance.now()
      path = make()
    }
    return await path
  }
}

/** Waits until no job waits or runs. */
const untilIdle = (url: string) =>
  eventually(async () => {
    const { targets } = (await (await fetch(`${url}/api/queue`)).json()) as {
      targets: { queued: number; running: number; releasing: number }[]
    }
    for (const { queued, running, releasing } of targets)
      if (queued + running + releasing > 0) throw new Error('jobs are left')
  })

function sizeOf(pid: number): { rss: number; fds: number } {
  const [, kib] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return { rss: Number(kib) * 1024, fds: readdirSync(`/proc/${pid}/fd`).length }
}

async function statusesOf(url: string): Promise<Record<string, number>> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const statuses: Record<string, number> = {}
  for (const [, status = '', count] of text.matchAll(
    /^diffusers_mcp_http_requests_total\{.*status="(\d+)".*\} (\d+)$/gm,
  ))
    statuses[status] = (statuses[status] ?? 0) + Number(count)
  return statuses
}
