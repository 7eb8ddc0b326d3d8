/** Which requests become a WebSocket. */
import { expect, test } from 'vitest'
import { upgradeStatus, wsUrl } from './peers.ts'
import type { SocketSuite } from './server.ts'

export function upgrades(suite: SocketSuite): void {
  test.each([
    [{ host: 'evil.example' }, 403],
    [{ origin: 'https://evil.example' }, 403],
    [{ origin: 'http://localhost:5173' }, 101],
  ])('answers the upgrade with %j by %i', async (headers, status) => {
    expect((await upgradeStatus(wsUrl(suite.server), headers as never)).status).toBe(status)
  })

  test('is no WebSocket elsewhere, no page without an upgrade, and knows no other subprotocol', async () => {
    expect((await upgradeStatus(wsUrl(suite.server).replace('/ws', '/mcp'))).status).toBe(405)
    expect((await fetch(`${suite.server.url}/ws`)).status).toBe(400)
    expect((await upgradeStatus(wsUrl(suite.server), {}, ['graphql-ws'])).status).toBe(400)
  })
}
