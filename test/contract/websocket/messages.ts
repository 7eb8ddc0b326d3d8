/** Messages of both protocols, as they go over the wire. */
import { expect, test } from 'vitest'
import { openPlainSocket } from '../../support/plain-socket.ts'
import { TINY } from '../../support/requests.ts'
import { wsUrl } from './peers.ts'
import type { SocketSuite } from './server.ts'

export function messages(suite: SocketSuite): void {
  test('greets who offers no subprotocol, and answers plain messages', async () => {
    const plain = await openPlainSocket(wsUrl(suite.server), { protocols: [] })
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
    const plain = await openPlainSocket(wsUrl(suite.server))
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
}
