/**
 * Attacks on pictures on their way out, at full size: clients that ask for many and leave, or read nothing. Neither may
 * fill the memory of the process or hold up others.
 */
import { randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import sharp from 'sharp'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createFilesystemImages } from '../../src/images/filesystem/filesystem.ts'
import { createLinks } from '../../src/images/links.ts'
import { frame, rawUpgrade, wsUrl } from '../contract/websocket/peers.ts'
import { eventually } from '../support/eventually.ts'
import { makeImage } from '../support/pictures.ts'
import { openPlainSocket } from '../support/plain-socket.ts'
import { type Running, startServer } from '../support/process.ts'
import { rawConnection, rawRequest } from '../support/raw-connection.ts'

const MIB = 2 ** 20
/** What the process may hold at its peak; a container of the chart has 1 GiB. */
const MAX_RSS = 700 * MIB
const SIDE = 2048
/** Of each caller. */
const PICTURES = 6
const KEY = 'a-key-for-the-attacks-only-0123456789'
const ANN = 'ann-ann-ann-ann-ann-ann-ann'
const BOB = 'bob-bob-bob-bob-bob-bob-bob'
const SCOPES = ['image:generate', 'image:read']
const TOKENS = JSON.stringify([
  { name: 'ann', token: ANN, scopes: SCOPES },
  { name: 'bob', token: BOB, scopes: SCOPES },
])
/** Times are compared with no less than this, in milliseconds, because the machine may be busy. */
const FLOOR_MS = 1000
const MINUTE_MS = 60_000

const bearer = (token: string) => ({ Authorization: `Bearer ${token}` })
const links = createLinks({ publicUrl: () => undefined, keys: () => [KEY] })

/** Peak of the resident memory of a process, in bytes. */
function peakRss({ child }: Running): number {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8')) ?? []
  return Number(kib) * 1024
}

let directory: string
let png: Buffer
const expiresAt = new Date(Date.now() + 60 * MINUTE_MS).toISOString()

/** Pictures of ann and bob, of 8 MB each, most of it noise. */
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'attacks-'))
  const pixels = Buffer.alloc(SIDE * SIDE * 3)
  png = await sharp(randomFillSync(pixels, 0, 8_000_000), { raw: { width: SIDE, height: SIDE, channels: 3 } })
    .png()
    .toBuffer()
  const store = await createFilesystemImages({ directory, maxBytes: 2 ** 30 })
  for (const owner of ['ann', 'bob'])
    for (let n = 0; n < PICTURES; n += 1)
      await store.put(
        makeImage(png, {
          id: `${owner}-${n}`,
          owner: `token:${owner}`,
          width: SIDE,
          height: SIDE,
          created_at: new Date().toISOString(),
          expires_at: expiresAt,
        }),
      )
  await store.close()
})
afterAll(() => rm(directory, { recursive: true }))

/** Sends a request and reads as little of its answer as possible. */
async function unread(server: Running, text: string): Promise<{ socket: Socket; head: string }> {
  const { hostname, port } = new URL(server.url)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => {})
  socket.write(text)
  return { socket, head: await firstBytes(socket) }
}

/** The head of an answer and the beginning of its body, or the first of a WebSocket; the rest stays unread. */
async function firstBytes(socket: Socket): Promise<string> {
  for (let text = ''; ; ) {
    text += socket.read() ?? ''
    const body = text.startsWith('HTTP/') ? text.split('\r\n\r\n').slice(1).join() : text
    if (body) return text
    await once(socket, 'readable')
  }
}

const statusOf = ({ head }: { head: string }) => head.slice('HTTP/1.1 '.length, 'HTTP/1.1 200'.length)

const readOf = (id: string) =>
  JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'resources/read', params: { uri: `image://${id}` } })

const mcpHeaders = (token: string) => ({
  ...bearer(token),
  'Content-Type': 'application/json',
  Accept: 'application/json, text/event-stream',
  'MCP-Protocol-Version': '2025-11-25',
})

describe.each(['node', 'deno'] as const)('on %s', (engine) => {
  let server: Running
  const open: Socket[] = []
  beforeEach(async () => {
    server = await startServer(engine, {
      ...{ LOG_LEVEL: 'debug', IMAGES_BACKEND: 'filesystem', IMAGES_DIR: directory, IMAGE_URL_KEY: KEY },
      ...{ IMAGES_MAX_BYTES: String(2 ** 30), AUTH_TOKENS: TOKENS },
    })
  })
  afterEach(async () => {
    for (const socket of open.splice(0)) socket.destroy()
    await server?.stop()
  })

  /** How long bob waits for a preview, in milliseconds. */
  async function previewOfBob(n: number): Promise<number> {
    const from = performance.now()
    const answer = await fetch(`${server.url}/images/bob-${n}?variant=preview`, { headers: bearer(BOB) })
    expect(answer.status).toBe(200)
    await answer.arrayBuffer()
    return performance.now() - from
  }

  test('300 previews that nobody waits for hold nobody up', async () => {
    await previewOfBob(0)
    const quiet = Math.max(FLOOR_MS, await previewOfBob(1), await previewOfBob(2))
    const asked = Array.from({ length: 300 }, async (_, n) => {
      const path = `/images/ann-${n % PICTURES}?variant=preview`
      const connection = await rawConnection(server.url, rawRequest(`GET ${path}`, { headers: bearer(ANN) }))
      await sleep(150)
      connection.socket.destroy()
    })
    const during = await previewOfBob(3)
    await Promise.all(asked)
    const after = await previewOfBob(4)
    expect(during / quiet).toBeLessThanOrEqual(3)
    expect(after / quiet).toBeLessThanOrEqual(3)
    expect(peakRss(server)).toBeLessThan(MAX_RSS)
  })

  test('300 readers of one link that take nothing are few, and are ended', async () => {
    const path = links.relativeOrAbsolute({ id: 'ann-0', expiresAt })
    const readers = await Promise.all(
      Array.from({ length: 300 }, () => unread(server, rawRequest(`GET ${path}`))),
    )
    open.push(...readers.map(({ socket }) => socket))
    const held = readers.filter((reader) => statusOf(reader) === '200').length
    expect(held).toBeGreaterThan(0)
    expect(readers.filter((reader) => statusOf(reader) === '429')).toHaveLength(300 - held)
    const full = await fetch(`${server.url}/images/bob-0`, { headers: bearer(BOB) })
    expect(Buffer.from(await full.arrayBuffer()).equals(png)).toBe(true)
    expect(peakRss(server)).toBeLessThan(MAX_RSS)
    const ended = () => server.log.filter(({ outcome }) => outcome === 'client left').length
    await eventually(() => expect(ended()).toBe(held), 2 * MINUTE_MS)
    const next = await fetch(server.url + path)
    expect((await next.arrayBuffer()).byteLength).toBe(png.length)
  })

  test('120 unread answers to resources/read are few', async () => {
    const body = readOf('ann-0')
    const readers = await Promise.all(
      Array.from({ length: 120 }, () =>
        unread(server, rawRequest('POST /mcp', { headers: mcpHeaders(ANN), body })),
      ),
    )
    open.push(...readers.map(({ socket }) => socket))
    const refused = readers.filter(({ head }) => head.includes('rate_limited')).length
    expect(refused).toBeGreaterThan(100)
    expect(refused).toBeLessThan(120)
    const answer = await fetch(`${server.url}/mcp`, {
      method: 'POST',
      headers: mcpHeaders(BOB),
      body: readOf('bob-0'),
    })
    expect(Buffer.from((await blobOf(answer)) ?? '', 'base64').equals(png)).toBe(true)
    expect(peakRss(server)).toBeLessThan(MAX_RSS)
  })

  test('60 WebSockets that read nothing are ended', async () => {
    const heads = await Promise.all(
      Array.from({ length: 60 }, async () => {
        const socket = await rawUpgrade(server.url, bearer(ANN))
        socket.pause()
        open.push(socket)
        socket.write(frame(readOf('ann-0')))
        return await firstBytes(socket)
      }),
    )
    const held = heads.filter((head) => !head.includes('rate_limited')).length
    expect(held).toBeGreaterThan(0)
    expect(held).toBeLessThan(20)
    const bob = await openPlainSocket(wsUrl(server), { protocols: ['mcp', protocolOf(BOB)] })
    const { contents } = await bob.request('resources/read', { uri: 'image://bob-0' })
    expect(Buffer.from((contents as [{ blob: string }])[0].blob, 'base64').equals(png)).toBe(true)
    expect(peakRss(server)).toBeLessThan(MAX_RSS)
    const ended = () => server.log.filter(({ reason }) => reason === 'slowReader').length
    await eventually(() => expect(ended()).toBe(held), 2 * MINUTE_MS)
    bob.socket.close()
  })
})

const protocolOf = (token: string) => `bearer.${Buffer.from(token).toString('base64url')}`

/** The picture in an answer to `resources/read`, which is JSON or one event. */
async function blobOf(answer: Response): Promise<string | undefined> {
  const text = await answer.text()
  const json = text.startsWith('{') ? text : text.slice(text.indexOf('data: ') + 'data: '.length)
  return JSON.parse(json.split('\n')[0] ?? '').result?.contents?.[0]?.blob
}
