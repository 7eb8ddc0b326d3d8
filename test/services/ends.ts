/** How a server ends, in every state that a connection can be in, and what bounds a connection that nobody ends. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { eventually } from '../support/eventually.ts'
import { cleanEnv, commandFor, type Engine, type Running, start, startServer } from '../support/process.ts'
import { type RawConnection, rawConnection, rawRequest } from '../support/raw-connection.ts'
import { TINY } from '../support/requests.ts'

const DRAIN_DELAY_MS = 300
const DRAIN_MS = 1500
/** What the end may take beyond the two, in milliseconds. */
const REST_MS = 2000
/** Larger than what the kernel holds for a peer that does not read. */
const LARGE = 20_000_000
/** Longer than any test: who waits for it sees a failure. */
const NEVER_MS = 600_000
const CLOSED = 'connections closed'
/** The answer of bounded-server.ts to /large. */
const BOUNDED_LARGE = 40_000_000
const ATTEMPTS = 5
/** What shells give for a process that a signal ended. */
const EXIT_STATUS = { SIGINT: 130, SIGTERM: 143 }
const DRAIN = { LOG_LEVEL: 'info', DRAIN_DELAY_MS: String(DRAIN_DELAY_MS), DRAIN_MS: String(DRAIN_MS) }

const large = JSON.stringify([{ name: 'large', kind: 'simulated', options: { imageBytes: LARGE } }])
const slow = JSON.stringify([{ name: 'slow', kind: 'simulated', options: { msPerStep: 500 } }])
const json = { 'Content-Type': 'application/json' }

/** The path of a picture of 20 MB. */
async function largePicture(server: Running): Promise<string> {
  const answer = await fetch(`${server.url}/api/images`, {
    method: 'POST',
    headers: { ...json, prefer: 'wait=60' },
    body: JSON.stringify(TINY),
  })
  const { url } = (await answer.json()) as { url: string }
  const { pathname, search } = new URL(url)
  return pathname + search
}

/** Starts to read a picture of 20 MB and stops at once. */
async function unread(server: Running): Promise<RawConnection> {
  const connection = await rawConnection(server.url, rawRequest(`GET ${await largePicture(server)}`))
  await connection.atLeast(1)
  connection.socket.pause()
  return connection
}

const toolCall = (progressToken: string) =>
  rawRequest('POST /mcp', {
    headers: { ...json, Accept: 'application/json, text/event-stream', 'MCP-Protocol-Version': '2025-11-25' },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: {
        name: 'generate_image',
        arguments: { ...TINY, num_inference_steps: 200 },
        _meta: { progressToken },
      },
    }),
  })

interface State {
  readonly name: string
  readonly open: (server: Running) => Promise<RawConnection>
  /** Whether the end has to cut it; absent where either may be. */
  readonly cut?: number
}

const STATES: State[] = [
  { name: 'sent nothing', cut: 0, open: ({ url }) => rawConnection(url) },
  { name: 'sent half a request line', cut: 0, open: ({ url }) => rawConnection(url, 'GET /hea') },
  {
    name: 'sent half of the headers',
    cut: 0,
    open: ({ url }) => rawConnection(url, 'GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n'),
  },
  {
    name: 'sent half of a body',
    cut: 1,
    open: ({ url }) =>
      rawConnection(url, rawRequest('POST /api/images', { headers: { ...json, 'Content-Length': 99 } })),
  },
  { name: 'does not read 20 MB', cut: 1, open: unread },
  {
    name: 'is idle after an answer',
    cut: 0,
    open: async ({ url }) => {
      const connection = await rawConnection(url, rawRequest('GET /health'))
      await connection.atLeast(1)
      return connection
    },
  },
  {
    name: 'is a WebSocket that ignores the close',
    open: async ({ url }) => {
      const headers = {
        Connection: 'Upgrade',
        Upgrade: 'websocket',
        'Sec-WebSocket-Version': 13,
        'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
      }
      const connection = await rawConnection(url, rawRequest('GET /ws', { headers }))
      await connection.atLeast(1)
      expect(connection.received().toString()).toMatch(/^HTTP\/1.1 101/)
      return connection
    },
  },
]

/**
 * Stops a server until one end took no longer than it may; a machine that stood still meanwhile shows nothing.
 */
async function endsInTime(engine: Engine, { open, cut }: State): Promise<void> {
  const inTime = DRAIN_DELAY_MS + DRAIN_MS + REST_MS
  let ms = 0
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const server = await startServer(engine, { ...DRAIN, RUNTIMES: large })
    const connection = await open(server)
    // The server has whatever was sent before, because it answers this.
    expect((await fetch(`${server.url}/health`)).status).toBe(200)
    const from = performance.now()
    expect(await server.stop()).toBe(0)
    ms = performance.now() - from
    const told = server.log.filter(({ event }) => event === CLOSED)
    expect(told).toHaveLength(1)
    if (cut !== undefined) expect(told[0]).toMatchObject({ cut_connections: cut })
    connection.socket.destroy()
    if (ms < inTime) return
  }
  expect(ms).toBeLessThan(inTime)
}

/** The suite for one engine. */
export function endsContract(engine: Engine): void {
  describe('SIGTERM while a connection', () => {
    test.each(STATES)('$name: the process ends in time', (state) => endsInTime(engine, state))

    test('waits for progress of a call: it gets the error before the end', async () => {
      const server = await startServer(engine, { ...DRAIN, RUNTIMES: slow })
      const connection = await rawConnection(server.url, toolCall('a-token'))
      await eventually(() => expect(connection.received().toString()).toContain('notifications/progress'))
      expect(await server.stop()).toBe(0)
      await connection.closed
      expect(connection.received().toString()).toContain('runtime_unavailable')
      expect(server.log.find(({ event }) => event === CLOSED)).toMatchObject({ cut_connections: 0 })
    })

    test('reads slowly: it gets every byte', async () => {
      const patient = { LOG_LEVEL: 'info', DRAIN_DELAY_MS: '0', DRAIN_MS: String(NEVER_MS) }
      const server = await startServer(engine, { ...patient, RUNTIMES: large })
      const connection = await unread(server)
      const code = server.stop()
      // The server has nothing more to do than to send this answer.
      await eventually(async () => await expect(rawConnection(server.url)).rejects.toThrow('ECONNREFUSED'))
      connection.socket.resume()
      await connection.closed
      const answer = connection.received()
      const head = answer.subarray(0, answer.indexOf('\r\n\r\n')).toString()
      expect(answer.length - head.length - 4).toBe(Number(/content-length: (\d+)/i.exec(head)?.[1]))
      expect(answer.length).toBeGreaterThan(LARGE)
      expect(await code).toBe(0)
      expect(server.log.find(({ event }) => event === CLOSED)).toMatchObject({ cut_connections: 0 })
    })

    test('does not read: the log tells how much was not sent', async () => {
      const server = await startServer(engine, { ...DRAIN, RUNTIMES: large })
      const connection = await unread(server)
      expect(await server.stop()).toBe(0)
      const told = server.log.find(({ event }) => event === CLOSED)
      expect(told).toMatchObject({ level: 'warn', cut_connections: 1 })
      expect(told?.unsent_bytes).toBeGreaterThan(1_000_000)
      connection.socket.destroy()
    })

    test('is idle: it is closed after the delay, while another still waits for its picture', async () => {
      const env = { LOG_LEVEL: 'info', DRAIN_DELAY_MS: '1', DRAIN_MS: String(NEVER_MS) }
      const server = await startServer(engine, { ...env, RUNTIMES: slow })
      const idle = await rawConnection(server.url, rawRequest('GET /health'))
      await idle.atLeast(1)
      const busy = await rawConnection(server.url, toolCall('a-token'))
      await eventually(() => expect(busy.received().toString()).toContain('notifications/progress'))
      const code = server.stop()
      await idle.closed
      expect(busy.socket.readyState).toBe('open')
      void server.stop()
      expect(await code).toBe(EXIT_STATUS.SIGTERM)
    })
  })

  describe('a second signal ends at once', () => {
    test.each(['SIGINT', 'SIGTERM'] as const)('%s', async (signal) => {
      const server = await startServer(engine, { LOG_LEVEL: 'info', DRAIN_DELAY_MS: String(NEVER_MS) })
      const ended = new Promise((resolve) => server.child.once('close', resolve))
      server.child.kill('SIGINT')
      await eventually(() => expect(server.log.some(({ event }) => event === 'draining')).toBe(true))
      server.child.kill(signal)
      expect(await ended).toBe(EXIT_STATUS[signal])
    })

    test('the first one on a terminal says so', async () => {
      const { command, args } = commandFor(engine, `src/main.${engine}.ts`)
      const line = [command, ...args].map((word) => `'${word}'`).join(' ')
      // `script` gives its command a terminal, and passes on what is typed.
      const child = spawn('script', ['--quiet', '--return', '--command', `exec ${line}`, '/dev/null'], {
        env: cleanEnv({ PORT: '0', LOG_LEVEL: 'info', RUNTIMES: slow, DRAIN_DELAY_MS: String(NEVER_MS) }),
        stdio: ['pipe', 'pipe', 'inherit'],
      })
      let shown = ''
      child.stdout.on('data', (chunk) => {
        shown += chunk
      })
      const ended = new Promise((resolve) => child.once('close', resolve))
      await eventually(() => expect(shown).toContain('"listening"'))
      child.stdin.write('\x03')
      await eventually(() => expect(shown).toContain('Press Ctrl-C again to end at once'))
      child.stdin.write('\x03')
      expect(await ended).toBe(EXIT_STATUS.SIGINT)
    })
  })

  describe('without a signal, a connection that', () => {
    const SHORT = { headersMs: 2000, requestMs: 3000, idleMs: 1000, unreadMs: 2000, checkMs: 100 }
    let server: Running
    beforeAll(async () => {
      const started = commandFor(engine, 'test/support/bounded-server.ts')
      server = await start({ ...started, env: { BOUNDS: JSON.stringify(SHORT) } })
    })
    afterAll(() => server?.stop())

    test.each([
      ['sends nothing', '', /^(HTTP\/1.1 408|$)/],
      ['sends half a request line', 'GET /hea', /^HTTP\/1.1 408/],
      ['sends half of the headers', 'GET / HTTP/1.1\r\nHost: a\r\n', /^HTTP\/1.1 408/],
      ['sends half of a body', rawRequest('POST /', { headers: { 'Content-Length': 9 } }), /^HTTP\/1.1 408/],
      ['is idle after an answer', rawRequest('GET /'), /^HTTP\/1.1 200/],
      [
        'sends too many headers',
        rawRequest('GET /', { headers: { a: 'b'.repeat(17_000) } }),
        /^HTTP\/1.1 431/,
      ],
      ['speaks HTTP/2 in the clear', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', /^HTTP\/1.1 400/],
    ])('%s is closed', async (_, text, answer) => {
      const connection = await rawConnection(server.url, text)
      await connection.closed
      expect(connection.received().toString()).toMatch(answer)
    })

    test.each(['/large', '/stream'])('does not read %s is closed', async (path) => {
      const connection = await rawConnection(server.url, rawRequest(`GET ${path}`))
      await connection.atLeast(1)
      connection.socket.pause()
      // A paused socket does not see its end.
      await eventually(() => expect(aborted(server, path)).toBe(1))
      connection.socket.destroy()
    })

    test('reads slowly, longer than an unread answer may wait, gets all of it', async () => {
      let size = 0
      // A machine that stands still reads nothing, so one attempt has to succeed.
      for (let attempt = 0; attempt < ATTEMPTS && size < BOUNDED_LARGE; attempt += 1) {
        const headers = { Connection: 'close' }
        const connection = await rawConnection(server.url, rawRequest('GET /large', { headers }))
        connection.socket.on('data', () => {
          connection.socket.pause()
          setTimeout(() => connection.socket.resume(), 5)
        })
        await connection.closed
        size = connection.received().length
      }
      expect(size).toBeGreaterThan(BOUNDED_LARGE)
    })

    test.each(['half-closes', 'resets'])('%s while it waits aborts its request', async (how) => {
      const before = aborted(server, '/never')
      const connection = await rawConnection(server.url, rawRequest('GET /never'))
      if (how === 'resets') connection.socket.resetAndDestroy()
      else connection.socket.end()
      await eventually(() => expect(aborted(server, '/never')).toBe(before + 1))
      await connection.closed
    })
  })

  test('a refused WebSocket is closed on both sides', async () => {
    const server = await startServer(engine, { LOG_LEVEL: 'info' })
    const headers = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Protocol': 'unknown' }
    const connection = await rawConnection(server.url, rawRequest('GET /ws', { headers }))
    await connection.closed
    expect(connection.received().toString()).toMatch(/^HTTP\/1.1 400/)
    // Only a connection that the server has let go of refuses what is sent.
    await eventually(() => {
      connection.socket.write('more')
      expect(connection.socket.destroyed).toBe(true)
    })
    expect(await server.stop()).toBe(0)
  })

  test('unfinished fragments of a WebSocket message are bounded', async () => {
    const server = await startServer(engine, { LOG_LEVEL: 'info', WS_MAX_MESSAGE_BYTES: '65536' })
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ws`, ['mcp'])
    const closed = new Promise((resolve) => socket.once('close', resolve))
    await new Promise((resolve) => socket.once('open', resolve))
    for (let count = 0; count < 3; count += 1) socket.send('x'.repeat(30_000), { fin: false })
    expect(await closed).toBe(1009)
    expect(await server.stop()).toBe(0)
  })
}

const aborted = ({ log }: Running, at: string) => log.filter(({ path }) => path === at).length
