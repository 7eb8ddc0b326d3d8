/** Pictures on their way out: what costs nothing, what is refused, and what calls that end early leave behind. */
import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket as WsSocket } from 'ws'
import { createFilesystemImages } from '../../src/images/filesystem/filesystem.ts'
import { createLinks } from '../../src/images/links.ts'
import { eventually } from '../support/eventually.ts'
import { makeImage, makePng } from '../support/pictures.ts'
import { openPlainSocket } from '../support/plain-socket.ts'
import { type Engine, type Running, startServer } from '../support/process.ts'
import { wsUrl } from './websocket/peers.ts'

const TOKEN = 'a-token-for-outgoing-pictures'
const KEY = 'a-key-for-outgoing-pictures-0123456789'
const OWN = { authorization: `Bearer ${TOKEN}` }
/** More than what the caller may have in flight, over all calls that end early. */
const ENDED_EARLY = 1000
/** In JSON a picture counts four times: so many of this size leave no room in the 64 MiB of one caller. */
const READS_THAT_FILL = 2
/** Larger than what the kernels and a client keep of an answer that nobody reads. */
const BYTES = 8 * 2 ** 20 - 16_384

const SMALL = ['small-1', 'small-2']

/** The suite for one engine. */
export function outgoingContract(engine: Engine): void {
  describe(`pictures on their way out of ${engine}`, () => {
    let directory: string
    let png: Buffer
    let server: Running
    const expires_at = new Date(Date.now() + 3_600_000).toISOString()
    const links = createLinks({ publicUrl: () => server.url, keys: () => [KEY] })

    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), 'outgoing-'))
      const small = await makePng({ width: 600, height: 600, noise: true })
      // What comes after its end belongs to no picture.
      png = Buffer.concat([small, Buffer.alloc(BYTES - small.length)])
      const store = await createFilesystemImages({ directory, maxBytes: 2 ** 28 })
      const record = { owner: 'token:default', created_at: new Date().toISOString(), expires_at }
      for (const id of ['one', 'two']) await store.put(makeImage(png, { ...record, id }))
      for (const id of SMALL) await store.put(makeImage(small, { ...record, id }))
      await store.close()
      server = await startServer(engine, {
        ...{ LOG_LEVEL: 'info', RATE_LIMIT_PER_MINUTE: '0', MCP_AUTH_TOKEN: TOKEN, IMAGE_URL_KEY: KEY },
        ...{ IMAGES_BACKEND: 'filesystem', IMAGES_DIR: directory },
      })
    })
    afterAll(async () => {
      await server?.stop()
      await rm(directory, { recursive: true })
    })

    const get = (path: string, headers = {}, method = 'GET') =>
      fetch(server.url + path, { method, headers: { ...OWN, ...headers } })
    const bytes = async (answer: Response) => Buffer.from(await answer.arrayBuffer())
    const read = (id: string) =>
      fetch(`${server.url}/mcp`, {
        method: 'POST',
        headers: {
          ...OWN,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
          'mcp-protocol-version': '2025-11-25',
        },
        body: JSON.stringify({
          jsonrpc: '2.0',
          id: 1,
          method: 'resources/read',
          params: { uri: `image://${id}` },
        }),
      })

    test('a picture comes byte for byte, with its length', async () => {
      for (const url of [
        `${server.url}/images/one`,
        links.relativeOrAbsolute({ id: 'one', expiresAt: expires_at }),
      ]) {
        const answer = await fetch(url, { headers: url.includes('sig=') ? {} : OWN })
        expect(answer.status).toBe(200)
        expect(answer.headers.get('content-length')).toBe(String(png.length))
        expect((await bytes(answer)).equals(png)).toBe(true)
      }
    })

    test('HEAD tells of a picture and sends none of it', async () => {
      const full = await get('/images/one', {}, 'HEAD')
      expect(full.status).toBe(200)
      expect(Object.fromEntries(full.headers)).toMatchObject({
        'content-length': String(png.length),
        'content-type': 'image/png',
        etag: expect.stringMatching(/^"full-/),
      })
      expect((await bytes(full)).length).toBe(0)
      const preview = await get('/images/one?variant=preview', {}, 'HEAD')
      expect(preview.headers.get('content-type')).toBe('image/webp')
      expect((await get('/images/nothing', {}, 'HEAD')).status).toBe(404)
    })

    test('a client that has a picture does not get it again', async () => {
      for (const variant of ['full', 'preview']) {
        const path = `/images/one?variant=${variant}`
        const first = await get(path)
        await bytes(first)
        const tag = first.headers.get('etag') ?? ''
        for (const known of [tag, `W/${tag}`, `"other", ${tag}`, '*']) {
          const again = await get(path, { 'if-none-match': known })
          expect(again.status).toBe(304)
          expect((await bytes(again)).length).toBe(0)
        }
        const other = await get(path, { 'if-none-match': '"other"' })
        expect(other.status).toBe(200)
        await bytes(other)
      }
      expect((await get('/images/one', {}, 'HEAD')).headers.get('etag')).not.toBe(
        (await get('/images/one?variant=preview', {}, 'HEAD')).headers.get('etag'),
      )
    })

    test('a caller that reads nothing is refused more, over every transport, until it leaves', async () => {
      const unread = await Promise.all(
        Array.from({ length: READS_THAT_FILL }, () => unreadAnswer(read('one'))),
      )
      expect((await messageOf(await read('two'))).error).toMatchObject({
        code: -32000,
        data: { code: 'rate_limited', retry_after_seconds: 2 },
      })
      const rest = await get('/images/two')
      expect([rest.status, rest.headers.get('retry-after')]).toEqual([429, '2'])
      expect(await rest.json()).toMatchObject({ code: 'rate_limited' })
      const plain = await openPlainSocket(wsUrl(server), {
        Socket: WsSocket as never,
        protocols: ['mcp', `bearer.${Buffer.from(TOKEN).toString('base64url')}`],
      })
      await expect(plain.request('resources/read', { uri: 'image://two' })).rejects.toThrow(/in flight/)
      plain.socket.close()
      // A link counts by itself; HEAD and what is known already cost nothing.
      const link = await fetch(links.relativeOrAbsolute({ id: 'two', expiresAt: expires_at }))
      expect((await bytes(link)).equals(png)).toBe(true)
      expect((await get('/images/two', {}, 'HEAD')).status).toBe(200)
      expect((await get('/images/two', { 'if-none-match': '*' })).status).toBe(304)
      for (const leave of unread) leave()
      await eventually(async () => expect((await get('/images/two', {})).status).toBe(200))
    })

    test(`${ENDED_EARLY} calls that end early leave nothing behind`, async () => {
      for (let n = 0; n < ENDED_EARLY; n += 20)
        await Promise.all(Array.from({ length: 20 }, (_, each) => endEarly(server, n + each)))
      // Were anything still counted, these would not all fit.
      await eventually(async () => {
        const answers = await Promise.all(Array.from({ length: READS_THAT_FILL }, () => read('one')))
        const found = await Promise.all(answers.map(messageOf))
        expect(found.filter(({ result }) => result)).toHaveLength(READS_THAT_FILL)
      })
      expect((await bytes(await get('/images/one'))).equals(png)).toBe(true)
    })
  })
}

/** The JSON-RPC message of an answer, which is JSON or a stream of one event. */
async function messageOf(answer: Response): Promise<{ result?: unknown; error?: unknown }> {
  const text = await answer.text()
  return JSON.parse(text.startsWith('{') ? text : (/^data: (\{.*)$/m.exec(text)?.[1] ?? ''))
}

/** An answer whose body nobody reads. @returns what to call to leave it. */
async function unreadAnswer(asked: Promise<Response>): Promise<() => void> {
  const answer = await asked
  expect(answer.status).toBe(200)
  return () => void answer.body?.cancel()
}

/** A call that ends before its answer is complete: of each kind, and in each phase. */
async function endEarly(server: Running, n: number): Promise<void> {
  const [kind, phase] = [n % 4, Math.floor(n / 4) % 3]
  if (kind === 3) return await endSocketEarly(server, phase)
  const id = (kind === 2 ? SMALL : ['one', ...SMALL])[n % (kind === 2 ? 2 : 3)]
  const body = JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    method: 'resources/read',
    params: { uri: `image://${id}` },
  })
  const headers = {
    ...OWN,
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-protocol-version': '2025-11-25',
  }
  const [path, method] = [
    [`/images/${id}`, 'GET'],
    [`/images/${id}?variant=preview`, 'GET'],
    ['/mcp', 'POST'],
  ][kind]!
  await new Promise<void>((resolve) => {
    const sent = request(`${server.url}${path}`, { method, headers: method === 'POST' ? headers : OWN })
    sent.on('close', () => resolve())
    sent.on('error', () => {})
    sent.end(method === 'POST' ? body : undefined)
    // Before the server has read it, before it has answered, and in the middle of the answer.
    if (phase === 0) sent.once('finish', () => sent.destroy())
    else if (phase === 1) sent.once('finish', () => setImmediate(() => sent.destroy()))
    else sent.once('response', (answer) => answer.once('data', () => sent.destroy()))
  })
}

async function endSocketEarly(server: Running, phase: number): Promise<void> {
  const socket = new WsSocket(wsUrl(server), ['mcp'], { headers: OWN })
  await new Promise((resolve) => socket.once('open', resolve))
  const closed = new Promise((resolve) => socket.once('close', resolve))
  socket.send(
    JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'resources/read', params: { uri: 'image://small-1' } }),
  )
  if (phase === 0) socket.terminate()
  else if (phase === 1) setImmediate(() => socket.terminate())
  else socket.once('message', () => socket.terminate())
  await closed
}
