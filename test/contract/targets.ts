/** Request targets in absolute form: they name a host, which counts as the Host header does. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, type Running, startServer } from '../support/process.ts'
import { rawConnection, rawRequest } from '../support/raw-connection.ts'

const UPGRADE = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': 13,
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
}

/** The suite for one engine. */
export function targetsContract(engine: Engine): void {
  describe('a server on loopback', () => {
    let server: Running
    beforeAll(async () => {
      server = await startServer(engine, { DRAIN_DELAY_MS: '0' })
    })
    afterAll(() => server?.stop())
    const statusOf = async (target: string, headers: Record<string, string | number> = {}) => {
      const connection = await rawConnection(server.url, rawRequest(`GET ${target}`, { headers }))
      await connection.atLeast('HTTP/1.1 200'.length)
      connection.socket.destroy()
      return Number(connection.received().toString('latin1').split(' ')[1])
    }

    test.each([
      'http://evil.com/api/queue',
      'http://evil.com:80/api/queue',
      'HTTP://EVIL.com/api/queue',
      'https://evil.com/api/queue',
      'http://localhost@evil.com/api/queue',
      'http://localhost.evil.com/api/queue',
    ])('refuses the target %s although its Host is fine', async (target) => {
      expect([400, 403]).toContain(await statusOf(target))
    })

    test('serves a target in absolute form with its own name, and none with a foreign Host', async () => {
      expect(await statusOf('http://localhost/api/queue')).toBe(200)
      expect(await statusOf('http://localhost/api/queue', { Host: 'evil.com' })).toBe(403)
    })

    test('does so for WebSockets', async () => {
      expect(await statusOf('http://evil.com/ws', UPGRADE)).toBe(403)
      expect(await statusOf('http://localhost/ws', UPGRADE)).toBe(101)
      // A path, and no name.
      expect(await statusOf('//evil.com/ws', UPGRADE)).toBe(404)
    })
  })
}
