/** Clients that leave before they have their answer, against a real server: no error, no warning, no 5xx. */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type HeldRuntime, startHeldRuntime } from '../fakes/held-runtime.ts'
import { eventually } from '../support/eventually.ts'
import { openPlainSocket } from '../support/plain-socket.ts'
import { type Engine, type Running, startServer } from '../support/process.ts'
import { TINY } from '../support/requests.ts'

/** Clients at once. */
const CLIENTS = 30
/** More than all socket buffers between a server and a client that does not read. */
const LARGE_BYTES = 16 * 2 ** 20
const LEFT = 499

const MODERN = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
}
const STREAM = { accept: 'application/json, text/event-stream' }

/** `tools/call` of generate_image; `meta` as clients of 2026-07-28 send it. */
const generateCall = (meta?: object) =>
  JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    method: 'tools/call',
    params: { name: 'generate_image', arguments: TINY, _meta: meta },
  })

export function leavingClientsContract(engine: Engine): void {
  let runtime: HeldRuntime
  let server: Running
  let printed = ''

  beforeAll(async () => {
    runtime = await startHeldRuntime()
    server = await startServer(engine, {
      LOG_LEVEL: 'info',
      RATE_LIMIT_PER_MINUTE: '0',
      RUNTIMES: JSON.stringify([
        { name: 'held', kind: 'kserve', url: runtime.url, concurrency: CLIENTS, queue: CLIENTS },
        { name: 'large', kind: 'simulated', options: { msPerStep: 0, imageBytes: LARGE_BYTES } },
      ]),
    })
    // What an engine or a library prints by itself is no JSON line of the log.
    server.child.stderr?.on('data', (chunk) => {
      printed += chunk
    })
  })
  afterAll(async () => {
    await server.stop()
    await runtime.stop()
  })

  const options = (path: string, method: string, headers: Record<string, string>) => {
    const { hostname, port } = new URL(server.url)
    return { hostname, port, path, method, headers, agent: false }
  }
  /** Sends a request whose answer is not read; its client leaves with `destroy`. */
  const ask = (path: string, headers: Record<string, string> = {}, body?: string): ClientRequest => {
    const type: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' }
    const asked = httpRequest(options(path, body === undefined ? 'GET' : 'POST', { ...type, ...headers }))
    asked.on('error', () => {}).end(body)
    return asked
  }
  const many = <T>(start: (index: number) => T): T[] =>
    Array.from({ length: CLIENTS }, (_, index) => start(index))

  const ended = (path: string, status: number) =>
    server.log.filter((line) => line.event === 'request' && line.path === path && line.status === status)
  const metrics = async () => await (await fetch(`${server.url}/metrics`)).text()
  const toolCalls = async (outcome: string) => {
    const line = `diffusers_mcp_tool_calls_total\\{tool="generate_image",outcome="${outcome}"\\} (\\d+)`
    return Number(new RegExp(line).exec(await metrics())?.[1] ?? 0)
  }

  /** All leave while the runtime draws for each of them, and the runtime stops. */
  const leaveWhileDrawing = async (leave: (() => void)[]) => {
    await eventually(() => expect(runtime.stats.running).toBe(CLIENTS))
    for (const one of leave) one()
    await eventually(() => expect(runtime.stats.running).toBe(0))
  }
  const expectLeft = (path: string, count = CLIENTS) =>
    eventually(() => {
      const lines = ended(path, LEFT)
      expect(lines).toHaveLength(count)
      expect(lines.every(({ level, outcome }) => level === 'info' && outcome === 'client left')).toBe(true)
    })

  test.each([
    ['for JSON', {}],
    ['for a PNG', { accept: 'image/png' }],
    ['for events', { accept: 'text/event-stream' }],
  ])('POST /api/images %s', async (_, headers: Record<string, string>) => {
    const before = ended('/api/images', LEFT).length
    const asked = many(() => ask('/api/images', headers, JSON.stringify(TINY)))
    await leaveWhileDrawing(asked.map((one) => () => one.destroy()))
    await expectLeft('/api/images', before + CLIENTS)
  })

  test.each<[string, Record<string, string>, object | undefined]>([
    ['older era', {}, undefined],
    [
      '2026-07-28',
      { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'generate_image' },
      MODERN,
    ],
  ])('POST /mcp, %s', async (_, headers, meta) => {
    const before = { requests: ended('/mcp', LEFT).length, calls: await toolCalls('client_left') }
    const asked = many(() => ask('/mcp', { ...STREAM, ...headers }, generateCall(meta)))
    await leaveWhileDrawing(asked.map((one) => () => one.destroy()))
    await expectLeft('/mcp', before.requests + CLIENTS)
    await eventually(async () => expect(await toolCalls('client_left')).toBe(before.calls + CLIENTS))
  })

  test('POST /api/tools/execute', async () => {
    const before = await toolCalls('client_left')
    const body = JSON.stringify({ tool: 'generate_image', params: TINY })
    const asked = many(() => ask('/api/tools/execute', {}, body))
    await leaveWhileDrawing(asked.map((one) => () => one.destroy()))
    await expectLeft('/api/tools/execute')
    await eventually(async () => expect(await toolCalls('client_left')).toBe(before + CLIENTS))
  })

  test.each([
    ['mcp', ['mcp'], JSON.parse(generateCall())],
    ['plain', [], { type: 'execute_tool', tool: 'generate_image', params: TINY }],
  ])('WebSockets with a call in flight, %s', async (_, protocols, message) => {
    const before = await toolCalls('client_left')
    const url = `${server.url.replace('http', 'ws')}/ws`
    const { WebSocket: Socket } = await import('ws')
    const sockets = await Promise.all(
      many(() => openPlainSocket(url, { protocols, Socket: Socket as never })),
    )
    for (const socket of sockets) socket.send(message)
    await leaveWhileDrawing(
      // Half of them without a closing handshake.
      sockets.map(
        ({ socket }, index) =>
          () =>
            index % 2 ? socket.close() : (socket as unknown as { terminate(): void }).terminate(),
      ),
    )
    await eventually(async () => expect(await toolCalls('client_left')).toBe(before + CLIENTS))
  })

  test('a cancelled call is cancelled, not failed', async () => {
    const before = await toolCalls('cancelled')
    const socket = await openPlainSocket(`${server.url.replace('http', 'ws')}/ws`)
    socket.send(generateCall())
    await eventually(() => expect(runtime.stats.running).toBe(1))
    const params = { requestId: 1, reason: 'The user clicked Stop.' }
    socket.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params })
    await eventually(() => expect(runtime.stats.running).toBe(0))
    await eventually(async () => expect(await toolCalls('cancelled')).toBe(before + 1))
    socket.socket.close()
  })

  test('a call on a connection that the server closes was not left', async () => {
    const before = { left: await toolCalls('client_left'), closed: await toolCalls('invalid_request') }
    const socket = await openPlainSocket(`${server.url.replace('http', 'ws')}/ws`)
    socket.send(generateCall())
    await eventually(() => expect(runtime.stats.running).toBe(1))
    // Binary frames are not accepted.
    socket.socket.send(new Uint8Array(1))
    expect((await socket.closed).code).toBe(1003)
    await eventually(async () => expect(await toolCalls('invalid_request')).toBe(before.closed + 1))
    expect(await toolCalls('client_left')).toBe(before.left)
  })

  test.each([
    ['/api/images', 'content-length: 1000'],
    ['/mcp', 'content-length: 1000'],
    ['/api/tools/execute', 'transfer-encoding: chunked'],
  ])('half a body, %s with %s', async (path, framing) => {
    const before = ended(path, LEFT).length
    const { hostname, port } = new URL(server.url)
    await Promise.all(
      many(
        () =>
          new Promise<void>((resolve, reject) => {
            const socket = connect(Number(port), hostname)
            socket.on('error', reject).on('close', () => resolve())
            socket.write(
              `POST ${path} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nContent-Type: application/json\r\n` +
                `Accept: ${STREAM.accept}\r\nExpect: 100-continue\r\n${framing}\r\n\r\n`,
            )
            // The server asks for the body, so that the request has begun.
            socket.once('data', () => socket.write('8\r\n{"prompt', () => socket.destroy()))
          }),
      ),
    )
    await expectLeft(path, before + CLIENTS)
  })

  test('pictures that are not downloaded to their end, and previews', async () => {
    const made = await fetch(`${server.url}/api/images`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...TINY, model: 'large' }),
    })
    const { image_id: id } = (await made.json()) as { image_id: string }
    const downloads = many(() => ask(`/images/${id}`))
    await Promise.all(
      downloads.map(async (download) => {
        const response = await new Promise<IncomingMessage>((resolve) => download.once('response', resolve))
        await new Promise((resolve) => response.once('data', resolve))
        response.on('error', () => {}).destroy()
      }),
    )
    await expectLeft(`/images/${id}`)
    const previews = many(() => ask(`/images/${id}?variant=preview`))
    await Promise.all(previews.map((one) => new Promise((resolve) => one.once('finish', resolve))))
    for (const one of previews) one.destroy()
    const path = `/images/${id}?variant=preview`
    await eventually(() => {
      // Some of them may have been faster than their client.
      const answered = server.log.filter((line) => line.event === 'request' && line.path === path)
      expect(answered.length).toBeGreaterThan(0)
      expect(answered.every(({ status }) => status === LEFT || status === 200)).toBe(true)
    })
  })

  test('those who wait for a job of somebody else', async () => {
    const made = await fetch(`${server.url}/api/images`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', prefer: 'respond-async' },
      body: JSON.stringify(TINY),
    })
    const path = `/api/jobs/${((await made.json()) as { job_id: string }).job_id}`
    const waiting = many((index) =>
      ask(path, index % 2 ? { prefer: 'wait=600' } : { accept: 'text/event-stream' }),
    )
    await Promise.all(waiting.map((one) => new Promise((resolve) => one.once('finish', resolve))))
    // The answer to a later request says that the server has read the earlier ones.
    await fetch(`${server.url}${path}`)
    for (const one of waiting) one.destroy()
    await eventually(() => expect(ended(path, LEFT).length).toBeGreaterThan(0))
    await fetch(`${server.url}${path}`, { method: 'DELETE' })
    await eventually(() => expect(runtime.stats.running).toBe(0))
  })

  test('afterwards there is no error, no warning, no 5xx, and nothing left to do', async () => {
    expect(server.log.filter(({ level }) => level !== 'info')).toEqual([])
    expect(printed).toBe('')
    const text = await metrics()
    expect(text).toMatch(/http_requests_total\{[^}]*status="499"\}/)
    expect(text.split('\n').filter((line) => /_requests_total\{.*status="5/.test(line))).toEqual([])
    expect(text).not.toContain('outcome="internal"')
    const { targets } = (await (await fetch(`${server.url}/api/queue`)).json()) as {
      targets: Record<string, unknown>[]
    }
    for (const target of targets) expect(target).toMatchObject({ queued: 0, running: 0 })
    expect(runtime.stats.running).toBe(0)
  })
}
