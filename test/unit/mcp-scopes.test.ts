/** Scopes over transports without a status: stdio and WebSocket get the same error as an answer. */
import { Client, InMemoryTransport } from '@modelcontextprotocol/client'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import type { Scope } from '../../src/auth/scopes.ts'
import { loadConfig } from '../../src/config/config.ts'
import { createParts, type Parts } from '../../src/parts.ts'
import { createMcpServerFactory } from '../../src/transports/mcp.ts'
import { ERROR_META, SCOPED_METHODS } from '../support/requests.ts'

let parts: Parts
beforeAll(async () => {
  parts = await createParts({ config: loadConfig({}), log: pino({ level: 'silent' }) })
})
afterAll(() => parts.close())

async function connect(...scopes: Scope[]): Promise<Client> {
  const [ours, theirs] = InMemoryTransport.createLinkedPair()
  const extra = { caller: { id: 'alice', scopes: new Set(scopes) }, requestId: 'r' }
  const server = createMcpServerFactory(parts.mcpParts)({
    authInfo: { token: '', clientId: 'alice', scopes: [], extra },
  } as never)
  await server.connect(theirs as never)
  const client = new Client({ name: 'test', version: '1' })
  await client.connect(ours)
  return client
}

describe('a caller without the scope', () => {
  test.each([
    ['generate_image', 'image:generate'],
    ['list_images', 'image:read'],
  ] as const)('gets the error "forbidden" of %s', async (name, scope) => {
    const client = await connect('data:read')
    const result = await client.callTool({ name, arguments: { prompt: 'a' } })
    expect(result).toMatchObject({
      isError: true,
      content: [{ text: expect.stringMatching(`^forbidden: .*"${scope}"`) }],
      _meta: { [ERROR_META]: { code: 'forbidden' } },
    })
  })

  test.each(SCOPED_METHODS)('%s %j is refused, and with it is not', async (method, params, scope) => {
    const send = async (...scopes: Scope[]) => {
      const client = await connect(...scopes)
      const answer = client.request({ method, params } as never, z.unknown() as never)
      return await answer.then(
        () => 'answered',
        (error: Error) => error.message,
      )
    }
    expect(await send('data:read')).toContain(`needs the scope "${scope}"`)
    expect(await send(scope)).not.toContain('scope')
  })
})
