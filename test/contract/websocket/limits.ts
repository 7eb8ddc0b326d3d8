/** What a connection may send, have in flight and leave unread, and what a thousand of them leave behind. */
import { expect, test } from 'vitest'
import { WebSocket as WsSocket } from 'ws'
import { eventually } from '../../support/eventually.ts'
import { openPlainSocket } from '../../support/plain-socket.ts'
import { frame, rawUpgrade, wsUrl } from './peers.ts'
import { LONG, type SocketSuite } from './server.ts'

export function limits(suite: SocketSuite): void {
  const { stats } = suite
  test('takes as many calls at a time as WS_MAX_CALLS says, and no id twice', async () => {
    const plain = await openPlainSocket(wsUrl(suite.server))
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
    const plain = await openPlainSocket(wsUrl(suite.server), { Socket: WsSocket as never })
    plain.socket.send(data as never)
    expect((await plain.closed).code).toBe(code)
  })

  test('closes an idle connection with 1001, but not while a call runs', async () => {
    const busy = await openPlainSocket(wsUrl(suite.server))
    const idle = await openPlainSocket(wsUrl(suite.server))
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
    const opened = suite.server.log.length
    const socket = await rawUpgrade(suite.server.url)
    socket.pause()
    // 64 KiB may wait; each answer has several, and the kernel's own buffers take some MB.
    const ask = frame('{"jsonrpc":"2.0","id":1,"method":"tools/list"}')
    const closed = () =>
      suite.server.log
        .slice(opened)
        .some(({ event, reason }) => event === 'websocket closed' && reason === 'slowReader')
    await eventually(() => {
      for (let n = 0; n < 50; n += 1) socket.write(ask)
      expect(closed()).toBe(true)
    })
    socket.destroy()
  })
}

export function leaks(suite: SocketSuite): void {
  test('leaks nothing over a thousand connections that were dropped', async () => {
    const rss = async () => {
      const metrics = await (await fetch(`${suite.server.url}/metrics`)).text()
      return Number(/^process_resident_memory_bytes (\S+)$/m.exec(metrics)?.[1])
    }
    const cycle = async () => {
      const plain = await openPlainSocket(wsUrl(suite.server), { Socket: WsSocket as never })
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
        suite.server.log.findLast(({ event, open }) => event === 'websocket closed' && open !== undefined),
      ).toMatchObject({ open: 0 }),
    )
    expect((await rss()) / warm).toBeLessThan(1.5)
  })
}
