/** Connections without authentication: to cancel reaches the calls of one's own connection only. */
import { expect, test } from 'vitest'
import { eventually } from '../../support/eventually.ts'
import { openPlainSocket } from '../../support/plain-socket.ts'
import { wsUrl } from './peers.ts'
import { LONG, type SocketSuite } from './server.ts'

export function strangers(suite: SocketSuite): void {
  const { stats } = suite
  test('a cancel notification ends the call of its own connection, not an equal one of another', async () => {
    await eventually(async () => expect((await stats()).running).toBe(0))
    const before = await stats()
    const open = () => openPlainSocket(wsUrl(suite.server))
    const [victim, other, third] = [await open(), await open(), await open()]
    const params = {
      name: 'generate_image',
      arguments: { ...LONG, seed: 77 },
      _meta: { 'io.github.diffusers-mcp/idempotencyKey': 'order-1' },
    }
    const cancel = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } }
    const call = { jsonrpc: '2.0', id: 1, method: 'tools/call', params }
    victim.send(call)
    other.send(call)
    await eventually(async () => expect((await stats()).started).toBe(before.started + 2))
    // It made no call of its own; the answer to the request tells that its notification was read.
    third.send(cancel)
    await third.request('tools/list')
    other.send(cancel)
    await eventually(async () => expect((await stats()).aborted).toBe(before.aborted + 1))
    expect((await stats()).running).toBe(1)
    victim.send(cancel)
    await eventually(async () => expect((await stats()).aborted).toBe(before.aborted + 2))
    for (const { socket } of [victim, other, third]) socket.close()
  })
}
