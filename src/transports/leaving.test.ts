import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import { Hono } from 'hono'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { eventually } from '../../test/support/eventually.ts'
import { ANONYMOUS } from '../auth/caller.ts'
import { AppError, clientLeft } from '../errors.ts'
import { createMetrics } from '../telemetry/metrics.ts'
import { createToolCaller, defineTool } from '../tools/tool.ts'
import type { AppEnv } from './context.ts'
import { answerErrors } from './error-answer.ts'
import { clientSignal } from './leaving.ts'
import { createMcpEndpoint } from './mcp.ts'
import { createReadiness } from './readiness.ts'
import { recordRequest } from './record-request.ts'

/** A server whose route does `act`, and a client that waits for it. */
async function serveOne(act: (signal: AbortSignal) => Promise<never>) {
  const lines: Record<string, unknown>[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line)) })
  const stopping = new AbortController()
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  const app = new Hono<AppEnv>()
    .use(
      recordRequest({
        jobs: { isCutOff: () => false },
        readiness: createReadiness({ dependencies: [], toolsets: [], log }),
        stopping: stopping.signal,
        metrics: createMetrics(),
        log,
      }),
    )
    .get('/', async (c) => {
      const acted = act(clientSignal(c))
      begin()
      return await acted
    })
  app.onError(answerErrors({ publicUrl: () => undefined, log }))
  const server = createAdaptorServer({ fetch: app.fetch }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const client = connect(port, '127.0.0.1').on('error', () => {})
  client.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await begun
  return { server: server as import('node:http').Server, client, lines, stopping }
}

/** Rejects as dependencies do: with the signal's reason, or with an error of their own. */
const untilAborted = (signal: AbortSignal, error: () => unknown) =>
  new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(error())))

const request = (lines: Record<string, unknown>[]) => lines.find(({ event }) => event === 'request')

test.each<[string, (signal: AbortSignal) => unknown]>([
  ["the signal's reason", (signal) => signal.reason],
  ['an AbortError', () => new DOMException('This operation was aborted', 'AbortError')],
])('a client that leaves is recorded as such, where the call ends with %s', async (_, error) => {
  const { server, client, lines } = await serveOne((signal) => untilAborted(signal, () => error(signal)))
  client.destroy()
  await eventually(() => expect(request(lines)).toMatchObject({ status: 499, outcome: 'client left' }))
  expect(lines).toHaveLength(1)
  server.close()
})

test('a failure that the client did not cause stays one, also where the client has left', async () => {
  const { server, client, lines } = await serveOne((signal) =>
    untilAborted(signal, () => new DOMException('The operation timed out', 'TimeoutError')),
  )
  client.destroy()
  await eventually(() => expect(request(lines)).toMatchObject({ status: 500, outcome: 'client left' }))
  expect(lines).toContainEqual(expect.objectContaining({ event: 'request failed', level: 50 }))
  server.close()
})

test('a timeout of our own is a failure while the client waits', async () => {
  const { server, client, lines } = await serveOne(async () => {
    throw new DOMException('This operation was aborted', 'AbortError')
  })
  await eventually(() => expect(request(lines)).toMatchObject({ status: 500 }))
  expect(request(lines)?.outcome).toBeUndefined()
  client.destroy()
  server.close()
})

test('a connection that the stopping server closes was not left', async () => {
  const { server, lines, stopping } = await serveOne((signal) => untilAborted(signal, () => signal.reason))
  stopping.abort(new AppError('overloaded', 'This server stops.'))
  server.closeAllConnections()
  await eventually(() =>
    expect(request(lines)).toMatchObject({ status: 503, outcome: 'cut by the stop of the server' }),
  )
  expect(lines).toHaveLength(1)
  server.close()
})

test('an MCP call that is answered without a stream is left, and not answered with 500', async () => {
  const { promise: called, resolve: call } = Promise.withResolvers<AppError>()
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  const log = pino({ level: 'silent' })
  const tool = defineTool({
    name: 'hang',
    title: 'Hang',
    description: 'Never answers.',
    scope: 'data:read',
    annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
    input: z.strictObject({}),
    output: z.object({}),
    async run(_, { signal }) {
      begin()
      return await untilAborted(signal, () => signal.reason).catch((error) => {
        call(error)
        throw error
      })
    },
  })
  const toolCaller = createToolCaller({ tools: [tool], log, metrics: createMetrics() })
  const endpoint = createMcpEndpoint({ toolCaller, version: '1', log } as never)
  const left = new AbortController()
  const body = {
    jsonrpc: '2.0',
    id: 1,
    method: 'tools/call',
    params: {
      name: 'hang',
      arguments: {},
      _meta: {
        'io.modelcontextprotocol/protocolVersion': '2026-07-28',
        'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
        'io.modelcontextprotocol/clientCapabilities': {},
      },
    },
  }
  const request = new Request('http://localhost/mcp', {
    method: 'POST',
    signal: left.signal,
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'tools/call',
      'mcp-name': 'hang',
    },
    body: JSON.stringify(body),
  })
  const caller = ANONYMOUS
  const asking = { caller, requestId: 'r', reasonOfClosing: clientLeft, onSent: () => {} }
  const answer = endpoint.fetch(request, { body, ...asking })
  await begun
  left.abort()
  await expect(answer).rejects.toMatchObject({ code: 'client_left' })
  expect(await called).toMatchObject({ code: 'client_left' })
  await endpoint.close()
})
