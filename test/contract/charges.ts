/** What costs the server something is charged to somebody: wrong links, messages of every kind, and what is held open. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket as WsSocket } from 'ws'
import { eventually } from '../support/eventually.ts'
import { type GuardedServer, startGuardedServer, TOKENS } from '../support/guarded-server.ts'
import { openPlainSocket, type PlainSocket } from '../support/plain-socket.ts'
import type { Engine } from '../support/process.ts'
import { TINY } from '../support/requests.ts'

type Name = keyof typeof TOKENS

const bearer = (name: Name) => ({ authorization: `Bearer ${TOKENS[name]}` })
const connect = (server: GuardedServer, name: Name, protocols = ['mcp']) => {
  class Socket extends WsSocket {
    constructor(url: string, offered: string[]) {
      super(url, offered, { headers: bearer(name) })
    }
  }
  return openPlainSocket(`${server.url.replace('http', 'ws')}/ws`, { protocols, Socket: Socket as never })
}

/** The suite for one engine. */
export function chargesContract(engine: Engine): void {
  const LIMIT = 20
  /** As in session.ts. */
  const MAX_REFUSED = 100

  describe('the rate limit', () => {
    let server: GuardedServer
    beforeAll(async () => {
      server = await startGuardedServer(engine, {
        RATE_LIMIT_PER_MINUTE: String(LIMIT),
        LOG_LEVEL: 'info',
        DRAIN_DELAY_MS: '0',
        DRAIN_MS: '100',
        WAIT_BUDGET_MS: '60000',
      })
    })
    afterAll(() => server?.stop())

    test('counts wrong links as failed authentications, and bounds what they write into the log', async () => {
      const wrong = async () => (await fetch(`${server.url}/images/abc?sig=x&exp=1`)).status
      const statuses: number[] = []
      for (let n = 0; n < 5 * LIMIT; n += 1) statuses.push(await wrong())
      expect(statuses.slice(0, LIMIT)).toEqual(Array.from({ length: LIMIT }, () => 403))
      expect(statuses).toContain(429)
      // Callers with a token, and health, are served.
      expect((await fetch(`${server.url}/api/queue`, { headers: bearer('alice') })).status).toBe(200)
      const lines = (path: RegExp) => server.log.filter((line) => path.test(String(line.path)))
      await eventually(() => expect(lines(/^\/api\/queue/)).toHaveLength(1))
      expect(lines(/^\/images\/abc/)).toHaveLength(60)
    })

    const cancellation = JSON.stringify({
      jsonrpc: '2.0',
      method: 'notifications/cancelled',
      params: { requestId: 77 },
    })
    test.each<[string, Name, string, string[]]>([
      ['no JSON', 'bob', '{', ['mcp']],
      ['no JSON-RPC', 'maker', '[0,0,0]', ['mcp']],
      ['cancellations of nothing', 'reader', cancellation, ['mcp']],
      ['malformed plain messages', 'analyst', '{"type":"nothing"}', []],
    ])('counts %s, and closes who goes on', async (_, name, message, protocols) => {
      const plain = await connect(server, name, protocols)
      for (let n = 0; n < LIMIT + MAX_REFUSED + 10; n += 1) plain.send(message)
      expect(await plain.closed).toMatchObject({ code: 1013 })
      const told = plain.messages.filter((it) => JSON.stringify(it).includes('rate_limited'))
      expect(told.length).toBeGreaterThan(0)
      // It was told before it was closed, and nothing was answered for free.
      expect(plain.messages.at(-1)).toEqual(told.at(-1))
      expect(plain.messages.length).toBeLessThanOrEqual(LIMIT + MAX_REFUSED + 2)
    })

    test('lets a caller over its limit cancel a call, and counts pings', async () => {
      const plain = await connect(server, 'default')
      const LONG = { ...TINY, model: 'slow', num_inference_steps: 100 }
      plain.send({
        jsonrpc: '2.0',
        id: 1,
        method: 'tools/call',
        params: { name: 'generate_image', arguments: LONG },
      })
      for (let n = 0; n < LIMIT; n += 1) (plain.socket as unknown as WsSocket).ping()
      await expect(plain.request('ping', {}, { id: 2 })).rejects.toThrow('RATE_LIMIT_PER_MINUTE')
      plain.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } })
      await eventually(async () => {
        const metrics = await (await fetch(`${server.url}/metrics`)).text()
        expect(metrics).toContain('tool_calls_total{tool="generate_image",outcome="cancelled"} 1')
      })
      for (let n = 0; n < MAX_REFUSED; n += 1) (plain.socket as unknown as WsSocket).ping()
      expect(await plain.closed).toMatchObject({ code: 1013 })
    })
  })

  describe('what a caller holds open', () => {
    const MAX = 4
    let server: GuardedServer
    beforeAll(async () => {
      const slow = { name: 'slow', kind: 'simulated', options: { msPerStep: 5000 }, queue: 10 }
      server = await startGuardedServer(engine, {
        RUNTIMES: JSON.stringify([slow]),
        MAX_HELD_PER_CALLER: String(MAX),
        WAIT_BUDGET_MS: '60000',
        DRAIN_DELAY_MS: '0',
        DRAIN_MS: '100',
      })
    })
    afterAll(() => server?.stop())

    test('is bounded, over sockets, streams and waiting requests; others are served', async () => {
      const queue = async (name: Name) =>
        (await fetch(`${server.url}/api/queue`, { headers: bearer(name) })).status
      const sockets: PlainSocket[] = [await connect(server, 'alice'), await connect(server, 'alice')]
      const leave = new AbortController()
      const ask = (accept: string) =>
        fetch(`${server.url}/api/images`, {
          method: 'POST',
          headers: { ...bearer('alice'), 'content-type': 'application/json', accept },
          body: JSON.stringify({ ...TINY, model: 'slow', num_inference_steps: 100 }),
          signal: leave.signal,
        })
      await ask('text/event-stream')
      // It waits for its picture.
      ask('application/json').catch(() => {})
      await eventually(async () => {
        const { targets } = await (await fetch(`${server.url}/api/queue`, { headers: bearer('bob') })).json()
        expect(targets).toMatchObject([{ running: 1, queued: 1 }])
      })
      const refused = await fetch(`${server.url}/api/queue`, { headers: bearer('alice') })
      expect(await refused.json()).toMatchObject({
        code: 'rate_limited',
        detail: expect.stringContaining('MAX_HELD_PER_CALLER'),
      })
      await expect(connect(server, 'alice')).rejects.toThrow('refused')
      expect(await queue('bob')).toBe(200)
      sockets[0]?.socket.close()
      await eventually(async () => expect(await queue('alice')).toBe(200))
      leave.abort()
      await eventually(async () => {
        const more = await Promise.all([connect(server, 'alice'), connect(server, 'alice')])
        sockets.push(...more)
      })
      for (const { socket } of sockets) socket.close()
    })
  })
}
