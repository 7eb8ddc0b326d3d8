/** Every WebSocket client: it lists, calls, sees progress and cancels. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket as WsSocket } from 'ws'
import { eventually } from '../../support/eventually.ts'
import { openPlainSocket } from '../../support/plain-socket.ts'
import { commandFor } from '../../support/process.ts'
import { TINY } from '../../support/requests.ts'
import { SOCKET_CLIENTS, type SocketClient } from '../../support/websocket-clients.ts'
import { wsUrl } from './peers.ts'
import { LONG, type SocketSuite } from './server.ts'

export function clients(suite: SocketSuite): void {
  const { stats } = suite
  describe.each(Object.entries(SOCKET_CLIENTS))('%s', (_, open) => {
    let client: SocketClient
    beforeAll(async () => {
      client = await open(wsUrl(suite.server))
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
    const { stdout } = await promisify(execFile)(command, [...args, wsUrl(suite.server)])
    const seen = JSON.parse(stdout)
    expect(seen.tools).toContain('generate_image')
    expect(seen.made).toMatchObject({ state: 'succeeded' })
    expect(seen.progress).toContainEqual(expect.stringMatching(/^Step [123]?\d of 40$/))
    await eventually(async () => expect((await stats()).aborted).toBe(before.aborted + 1))
  })

  test('a dropped socket detaches its waiters', async () => {
    const before = await stats()
    const plain = await openPlainSocket(wsUrl(suite.server), { Socket: WsSocket as never })
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
}
