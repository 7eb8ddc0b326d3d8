/** `/ws` on a real server: every client, both protocols, limits, tokens, drops and restarts. */
import { execFile } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket as WsSocket } from 'ws'
import { MCPWebSocketClient } from '../../src/client/client.ts'
import { startHeldRuntime } from '../fakes/held-runtime.ts'
import { eventually } from '../support/eventually.ts'
import { ALLOWED_ORIGIN, type GuardedServer, startGuardedServer, TOKENS } from '../support/guarded-server.ts'
import { openPlainSocket, type PlainSocket } from '../support/plain-socket.ts'
import {
  commandFor,
  type Engine,
  type Running,
  startServer,
  startSimulatedRuntime,
} from '../support/process.ts'
import { ERROR_META, statsOf, TINY } from '../support/requests.ts'
import { SOCKET_CLIENTS, type SocketClient } from '../support/websocket-clients.ts'

const LONG = { ...TINY, model: 'slow', num_inference_steps: 200 }

const wsUrl = ({ url }: { url: string }) => `${url.replace('http', 'ws')}/ws`

/** The status that an upgrade with these headers is answered with; 101 is closed again. */
function upgradeStatus(url: string, headers: Record<string, string> = {}, protocols: string[] = []) {
  return new Promise<{ status: number; headers: Record<string, unknown> }>((resolve, reject) => {
    const socket = new WsSocket(url, protocols, { headers })
    socket.on('unexpected-response', (_, response) => {
      response.resume()
      resolve({ status: response.statusCode ?? 0, headers: response.headers })
    })
    socket.on('upgrade', (response) => {
      resolve({ status: 101, headers: response.headers })
      socket.on('open', () => socket.close())
    })
    socket.on('error', reject)
  })
}

/** A handshake by hand: for peers that do what no WebSocket library would. */
function rawUpgrade(url: string, headers: Record<string, string> = {}): Promise<Socket> {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const { hostname, port, host } = new URL(url)
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () =>
      socket.write(
        `GET /ws HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
          'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mcp\r\n' +
          `${lines.join('')}\r\n`,
      ),
    )
    socket.once('data', () => resolve(socket))
    socket.on('error', reject)
  })
}

/** A masked text frame (RFC 6455, section 5.2) with an all-zero mask. */
function frame(text: string): Buffer {
  const body = Buffer.from(text)
  const length =
    body.length < 126
      ? Buffer.from([0x80 | body.length])
      : Buffer.from([0x80 | 126, body.length >> 8, body.length & 255])
  return Buffer.concat([Buffer.from([0x81]), length, Buffer.alloc(4), body])
}

export function websocketContract(engine: Engine): void {
  describe('without authentication', () => {
    let runtime: Running
    let server: Running
    const stats = () => statsOf(runtime)

    beforeAll(async () => {
      runtime = await startSimulatedRuntime({ msPerStep: 50 })
      server = await startServer(engine, {
        LOG_LEVEL: 'debug',
        RATE_LIMIT_PER_MINUTE: '0',
        ORPHAN_GRACE_MS: '100',
        WS_IDLE_MS: '3000',
        WS_MAX_CALLS: '4',
        WS_MAX_MESSAGE_BYTES: '4096',
        WS_MAX_BUFFERED_BYTES: '65536',
        RUNTIMES: JSON.stringify([
          { name: 'quick', kind: 'simulated', options: { msPerStep: 1 }, concurrency: 4, queue: 100 },
          { name: 'slow', kind: 'kserve', url: runtime.url, concurrency: 8, queue: 100 },
        ]),
      })
    })
    afterAll(async () => {
      await server?.stop()
      await runtime?.stop()
    })

    describe.each(Object.entries(SOCKET_CLIENTS))('%s', (_, open) => {
      let client: SocketClient
      beforeAll(async () => {
        client = await open(wsUrl(server))
      })
      afterAll(() => client?.close())

      test('lists, calls, and sees progress', async () => {
        expect((await client.listTools()).map(({ name }) => name)).toContain('generate_image')
        const seen: (string | undefined)[] = []
        const made = await client.call(
          'generate_image',
          { ...TINY, num_inference_steps: 40, model: 'slow' },
          { onProgress: ({ message }) => seen.push(message) },
        )
        expect(made).toMatchObject({ state: 'succeeded', width: 64, height: 64 })
        // Steps that come faster than they can be told are told by the last of them.
        expect(seen).toContainEqual(expect.stringMatching(/^Step [123]?\d of 40$/))
      })

      test('cancels, down to the runtime', async () => {
        const before = await stats()
        const leave = new AbortController()
        const call = client.call('generate_image', LONG, {
          signal: leave.signal,
          onProgress: ({ message }) => {
            if (/^Step \d+ of 200$/.test(message ?? '')) leave.abort(new Error('no longer wanted'))
          },
        })
        await expect(call).rejects.toThrow()
        await eventually(async () => expect((await stats()).aborted).toBe(before.aborted + 1))
        expect((await client.listTools()).length).toBeGreaterThan(0)
      })
    })

    test('Deno’s WebSocket lists, calls, sees progress and cancels', async () => {
      const before = await stats()
      const { command, args } = commandFor('deno', 'test/support/deno-socket.ts')
      const { stdout } = await promisify(execFile)(command, [...args, wsUrl(server)])
      const seen = JSON.parse(stdout)
      expect(seen.tools).toContain('generate_image')
      expect(seen.made).toMatchObject({ state: 'succeeded' })
      expect(seen.progress).toContainEqual(expect.stringMatching(/^Step [123]?\d of 40$/))
      await eventually(async () => expect((await stats()).aborted).toBe(before.aborted + 1))
    })

    test('a dropped socket detaches its waiters', async () => {
      const before = await stats()
      const plain = await openPlainSocket(wsUrl(server), { Socket: WsSocket as never })
      plain.send({
        jsonrpc: '2.0',
        id: 1,
        method: 'tools/call',
        params: { name: 'generate_image', arguments: LONG },
      })
      await eventually(async () => expect((await stats()).started).toBe(before.started + 1))
      ;(plain.socket as unknown as WsSocket).terminate()
      await eventually(async () => expect((await stats()).aborted).toBe(before.aborted + 1))
    })

    test('greets who offers no subprotocol, and answers plain messages', async () => {
      const plain = await openPlainSocket(wsUrl(server), { protocols: [] })
      expect(await plain.message(({ type }) => type === 'connection')).toEqual({
        type: 'connection',
        sessionId: expect.stringMatching(/^[\w-]{36}$/),
        timestamp: expect.stringMatching(/^\d{4}-/),
      })
      plain.send({ type: 'ping', id: 'p' })
      expect(await plain.message(({ type }) => type === 'pong')).toMatchObject({ id: 'p' })
      plain.send({ type: 'list_tools' })
      const { data } = await plain.message(({ type }) => type === 'tools')
      expect(data).toMatchObject([{ name: 'generate_image' }, {}, {}, {}, {}])
      plain.send({ type: 'execute_tool', tool: 'generate_image', params: TINY, id: 2 })
      expect(await plain.message(({ type }) => type === 'tool_result')).toMatchObject({
        tool: 'generate_image',
        id: 2,
        data: { state: 'succeeded' },
        content: [{ type: 'text' }, { type: 'image' }, { type: 'resource_link' }],
      })
      plain.send({ type: 'execute_tool', tool: 'nothing', id: 3 })
      expect(await plain.message(({ id }) => id === 3)).toMatchObject({ type: 'error', code: 'not_found' })
      plain.send('{')
      expect(await plain.message(({ error }) => /not valid JSON/.test(String(error)))).toBeTruthy()
      plain.socket.close()
      await plain.closed
    })

    test('sends no greeting to who offers mcp, and refuses what is not one message', async () => {
      const plain = await openPlainSocket(wsUrl(server))
      for (const [text, code] of [
        ['[]', -32600],
        ['{"type":"ping"}', -32600],
        ['"', -32600],
        ['['.repeat(40), -32600],
      ] as const) {
        plain.messages.length = 0
        plain.send(text)
        expect(await plain.message(() => true)).toMatchObject({ id: null, error: { code } })
      }
      plain.socket.close()
      await plain.closed
    })

    test('takes as many calls at a time as WS_MAX_CALLS says, and no id twice', async () => {
      const plain = await openPlainSocket(wsUrl(server))
      const ask = (id: number) =>
        plain.send({
          jsonrpc: '2.0',
          id,
          method: 'tools/call',
          params: { name: 'generate_image', arguments: LONG },
        })
      for (const id of [1, 2, 3, 4]) ask(id)
      ask(4)
      expect(await plain.message(({ id }) => id === 4)).toMatchObject({ error: { code: -32600 } })
      ask(5)
      expect(await plain.message(({ id }) => id === 5)).toMatchObject({
        error: { data: { code: 'rate_limited' } },
      })
      // A cancelled call makes room.
      plain.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } })
      expect(await plain.request('ping', {}, { id: 6 })).toEqual({})
      plain.socket.close()
      await plain.closed
      await eventually(async () => expect((await stats()).running).toBe(0))
    })

    test.each([
      ['too big', 'x'.repeat(5000), 1009],
      ['binary', Buffer.from('{}'), 1003],
    ])('closes what is %s', async (_, data, code) => {
      const plain = await openPlainSocket(wsUrl(server), { Socket: WsSocket as never })
      plain.socket.send(data as never)
      expect((await plain.closed).code).toBe(code)
    })

    test('closes an idle connection with 1001, but not while a call runs', async () => {
      const busy = await openPlainSocket(wsUrl(server))
      const idle = await openPlainSocket(wsUrl(server))
      // Longer than the idle time.
      const call = busy.request('tools/call', {
        name: 'generate_image',
        arguments: { ...LONG, num_inference_steps: 100 },
      })
      expect((await idle.closed).code).toBe(1001)
      expect(await call).toMatchObject({ structuredContent: { state: 'succeeded' } })
      busy.socket.close()
      await busy.closed
    })

    test('a slow reader is refused more, and what it can make the server hold is bounded', async () => {
      const opened = server.log.length
      const socket = await rawUpgrade(server.url)
      socket.pause()
      // 64 KiB may wait; each answer has several, and the kernel's own buffers take some MB.
      const ask = frame('{"jsonrpc":"2.0","id":1,"method":"tools/list"}')
      const closed = () =>
        server.log
          .slice(opened)
          .some(({ event, reason }) => event === 'websocket closed' && reason === 'slowReader')
      await eventually(() => {
        for (let n = 0; n < 50; n += 1) socket.write(ask)
        expect(closed()).toBe(true)
      })
      socket.destroy()
    })

    test.each([
      [{ host: 'evil.example' }, 403],
      [{ origin: 'https://evil.example' }, 403],
      [{ origin: 'http://localhost:5173' }, 101],
    ])('answers the upgrade with %j by %i', async (headers, status) => {
      expect((await upgradeStatus(wsUrl(server), headers as never)).status).toBe(status)
    })

    test('is no WebSocket elsewhere, no page without an upgrade, and knows no other subprotocol', async () => {
      expect((await upgradeStatus(wsUrl(server).replace('/ws', '/mcp'))).status).toBe(405)
      expect((await fetch(`${server.url}/ws`)).status).toBe(400)
      expect((await upgradeStatus(wsUrl(server), {}, ['graphql-ws'])).status).toBe(400)
    })

    test('leaks nothing over a thousand connections that were dropped', async () => {
      const rss = async () => {
        const metrics = await (await fetch(`${server.url}/metrics`)).text()
        return Number(/^process_resident_memory_bytes (\S+)$/m.exec(metrics)?.[1])
      }
      const cycle = async () => {
        const plain = await openPlainSocket(wsUrl(server), { Socket: WsSocket as never })
        plain.send({ jsonrpc: '2.0', id: 1, method: 'tools/list' })
        plain.send({
          jsonrpc: '2.0',
          id: 2,
          method: 'tools/call',
          params: { name: 'list_image_models', arguments: {} },
        })
        await plain.message(({ id }) => id === 1)
        ;(plain.socket as unknown as WsSocket).terminate()
        await plain.closed
      }
      const cycles = async (count: number) => {
        for (let n = 0; n < count; n += 10) await Promise.all(Array.from({ length: 10 }, cycle))
      }
      await cycles(500)
      const warm = await rss()
      await cycles(1000)
      await eventually(() =>
        expect(
          server.log.findLast(({ event, open }) => event === 'websocket closed' && open !== undefined),
        ).toMatchObject({ open: 0 }),
      )
      expect((await rss()) / warm).toBeLessThan(1.5)
    })
  })

  describe('with authentication', () => {
    let server: GuardedServer
    beforeAll(async () => {
      server = await startGuardedServer(engine)
    })
    afterAll(() => server?.stop())
    const bearer = (token: string) => `bearer.${Buffer.from(token).toString('base64url')}`

    test('lets in by header or subprotocol, echoes no token, and asks all others for one', async () => {
      const url = wsUrl(server)
      const header = (token: string) => ({ authorization: `Bearer ${token}` })
      const jwt = await server.issuer.token({ sub: 'carol' })
      for (const token of [TOKENS.alice, TOKENS.default, jwt]) {
        expect((await upgradeStatus(url, header(token))).status).toBe(101)
        const { status, headers } = await upgradeStatus(url, {}, ['mcp', bearer(token)])
        expect([status, headers['sec-websocket-protocol']]).toEqual([101, 'mcp'])
      }
      const refused = [
        await upgradeStatus(url),
        await upgradeStatus(url, header('wrong-token-wrong-token')),
        await upgradeStatus(url, header(TOKENS.former)),
        await upgradeStatus(url, { authorization: `Basic ${TOKENS.alice}` }),
        await upgradeStatus(url, {}, ['mcp', bearer('wrong-token-wrong-token')]),
        await upgradeStatus(url, {}, ['mcp', `bearer.${TOKENS.alice}`]),
        await upgradeStatus(`${url}?access_token=${TOKENS.alice}`),
        await upgradeStatus(`${url}?access_token=${TOKENS.alice}`, header(TOKENS.alice)),
      ]
      for (const { status, headers } of refused)
        expect([status, headers['www-authenticate']]).toEqual([401, expect.stringMatching(/^Bearer/)])
      expect(
        (await upgradeStatus(url, { ...header(TOKENS.alice), origin: 'https://evil.example' })).status,
      ).toBe(403)
      expect((await upgradeStatus(url, { ...header(TOKENS.alice), origin: ALLOWED_ORIGIN })).status).toBe(101)
      expect(JSON.stringify(server.log)).not.toContain(bearer(TOKENS.alice))
    })

    test('scopes hold, and another caller’s job is not found', async () => {
      const open = (token: string) => openPlainSocket(wsUrl(server), { protocols: ['mcp', bearer(token)] })
      const reader = await open(TOKENS.reader)
      const call = (name: string, args: object) => ({ name, arguments: args })
      expect(await reader.request('tools/call', call('generate_image', TINY))).toMatchObject({
        isError: true,
        _meta: { [ERROR_META]: { code: 'forbidden' } },
      })
      const alice = await open(TOKENS.alice)
      const { structuredContent } = await alice.request('tools/call', call('generate_image', TINY))
      const uri = `image://${(structuredContent as { image_id: string }).image_id}`
      expect(await alice.request('resources/read', { uri })).toMatchObject({ contents: [{ uri }] })
      await expect(reader.request('resources/read', { uri })).rejects.toThrow(/not found/i)
      alice.socket.close()
      reader.socket.close()
    })

    test('closes with 1008 when the token expires', async () => {
      // A token that expired before it was shown is refused: then with one that lasts longer.
      const open = async (seconds: number): Promise<PlainSocket> => {
        const exp = Math.floor(Date.now() / 1000) + seconds
        const token = await server.issuer.token({ sub: 'carol', claims: { exp } })
        return await openPlainSocket(wsUrl(server), { protocols: ['mcp', bearer(token)] }).catch((error) => {
          if (Date.now() / 1000 < exp || seconds > 20) throw error
          return open(2 * seconds)
        })
      }
      const plain = await open(4)
      expect((await plain.closed).code).toBe(1008)
    })

    test('MCPWebSocketClient says what is wrong with a token, and asks for another where it can', async () => {
      const wrong = new MCPWebSocketClient({ url: wsUrl(server), authToken: 'wrong-token-wrong-token' })
      await expect(wrong.connect()).rejects.toMatchObject({ code: 'connection_failed' })
      const right = new MCPWebSocketClient({ url: wsUrl(server), authToken: TOKENS.alice })
      await right.connect()
      expect((await right.executeTool('list_images')).data).toMatchObject({ images: expect.anything() })
      await expect(right.executeTool('get_image_job', { job_id: 'nothing' })).rejects.toMatchObject({
        code: expect.stringMatching(/not_found|invalid_request/),
      })
      await right.close()
    })
  })

  describe('that is pinged every second', () => {
    const OLD = 'the-token-of-yesterday'
    let server: Running
    let file: string
    beforeAll(async () => {
      file = join(mkdtempSync(join(tmpdir(), 'token-')), 'token')
      writeFileSync(file, OLD)
      server = await startServer(engine, { LOG_LEVEL: 'info', WS_PING_MS: '1000', MCP_AUTH_TOKEN_FILE: file })
    })
    afterAll(() => server?.stop())

    test('drops a peer that answers no ping', async () => {
      const asked = performance.now()
      const socket = await rawUpgrade(server.url, { Authorization: `Bearer ${OLD}` })
      await new Promise<void>((resolve) => {
        socket.on('close', () => resolve())
        socket.on('error', () => resolve())
        socket.resume()
      })
      // Not before it had the time to answer one.
      expect(performance.now() - asked).toBeGreaterThan(1000)
    })

    test('closes with 1008 when the token was withdrawn', async () => {
      const bearer = `bearer.${Buffer.from(OLD).toString('base64url')}`
      const plain = await openPlainSocket(wsUrl(server), { protocols: ['mcp', bearer] })
      writeFileSync(file, 'the-token-of-today')
      expect((await plain.closed).code).toBe(1008)
    })
  })

  describe('a server that restarts', () => {
    const CLIENTS = 50
    test('under fifty clients: all come back, and every picture is finished once', async () => {
      const runtime = await startHeldRuntime()
      const { stats } = runtime
      const env = {
        LOG_LEVEL: 'info',
        RATE_LIMIT_PER_MINUTE: '0',
        RUNTIMES: JSON.stringify([
          { name: 'held', kind: 'kserve', url: runtime.url, concurrency: 2 * CLIENTS, queue: 10 * CLIENTS },
        ]),
      }
      let server = await startServer(engine, env)
      const port = new URL(server.url).port
      const clients = Array.from(
        { length: CLIENTS },
        () =>
          // As often as it takes: the server comes back when it comes back.
          new MCPWebSocketClient({ url: wsUrl(server), reconnectInterval: 200, maxReconnectAttempts: 1e6 }),
      )
      try {
        await Promise.all(clients.map((client) => client.connect()))
        const calls = Promise.all(clients.map((client) => client.executeTool('generate_image', TINY)))
        await eventually(() => expect(stats.running).toBe(CLIENTS))
        server.child.kill('SIGKILL')
        await eventually(() => expect(stats).toMatchObject({ running: 0, aborted: CLIENTS }))
        server = await startServer(engine, { ...env, PORT: port })
        await eventually(() => expect(stats.running).toBe(CLIENTS))
        runtime.release()
        const pictures = await calls
        expect(new Set(pictures.map(({ data }) => data.image_id)).size).toBe(CLIENTS)
        expect(stats.started - stats.aborted).toBe(CLIENTS)
        expect(clients.filter(({ connected }) => connected)).toHaveLength(CLIENTS)
      } finally {
        await Promise.all(clients.map((client) => client.close()))
        await server.stop()
        await runtime.stop()
      }
    })

    test('finishes what runs, then closes with 1012, and takes nobody new', async () => {
      const runtime = await startHeldRuntime()
      const server = await startServer(engine, {
        LOG_LEVEL: 'info',
        RUNTIMES: JSON.stringify([{ name: 'held', kind: 'kserve', url: runtime.url }]),
      })
      const url = wsUrl(server)
      const busy = await openPlainSocket(url)
      const idle = await openPlainSocket(url)
      const call = busy.request('tools/call', { name: 'generate_image', arguments: TINY })
      await eventually(() => expect(runtime.stats.running).toBe(1))
      const stopped = server.stop()
      expect((await idle.closed).code).toBe(1012)
      expect((await upgradeStatus(url)).status).toBe(503)
      runtime.release()
      expect(await call).toMatchObject({ structuredContent: { state: 'succeeded' } })
      expect((await busy.closed).code).toBe(1012)
      expect(await stopped).toBe(0)
      await runtime.stop()
    })
  })
}
