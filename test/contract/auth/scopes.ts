/** What each scope opens, over REST and MCP. */
import { describe, expect, test } from 'vitest'
import { type Connect, HTTP_CLIENTS } from '../../support/clients.ts'
import { rpc, TOKENS } from '../../support/guarded-server.ts'
import { SCOPED_METHODS, TINY } from '../../support/requests.ts'
import { type AuthSuite, HOLDERS } from './server.ts'

export function scopes(suite: AuthSuite): void {
  const { post } = suite
  describe('scopes of tools and methods', () => {
    test('every tool says its scope, and asks for it, over REST and MCP', async () => {
      const { result } = await rpc(suite.server.url, { token: TOKENS.analyst, method: 'tools/list' })
      const tools = result?.tools as { name: string; _meta: Record<string, string> }[]
      expect(tools.length).toBeGreaterThanOrEqual(5)
      for (const { name, _meta } of tools) {
        const needed = _meta['io.github.diffusers-mcp/scope'] as string
        expect(Object.keys(HOLDERS)).toContain(needed)
        for (const [scope, token] of Object.entries(HOLDERS)) {
          const refused = scope !== needed
          const overRest = await post('/api/tools/execute', { tool: name, params: { nothing: 1 } }, token)
          const overMcp = await rpc(suite.server.url, {
            token,
            method: 'tools/call',
            params: { name, arguments: { nothing: 1 } },
          })
          expect([name, scope, overRest.status, overMcp.status]).toEqual(
            refused ? [name, scope, 403, 403] : [name, scope, 400, 200],
          )
          if (!refused) continue
          const challenge = `error="insufficient_scope", scope="${needed}"`
          expect(overRest.headers.get('www-authenticate')).toContain(challenge)
          expect(overMcp.headers.get('www-authenticate')).toContain(challenge)
          expect(overMcp.error?.data).toMatchObject({ code: 'forbidden' })
        }
      }
    })

    test.each(SCOPED_METHODS)('%s %j needs %s', async (method, params, needed) => {
      for (const [scope, token] of Object.entries(HOLDERS)) {
        const { status } = await rpc(suite.server.url, { token, method, params })
        expect([scope, status === 403]).toEqual([scope, scope !== needed])
      }
    })

    test.each(['tools/list', 'prompts/list', 'resources/templates/list'])(
      '%s is open to every caller, so that hosts can ask for more',
      async (method) => {
        expect(await rpc(suite.server.url, { token: TOKENS.analyst, method })).toMatchObject({
          status: 200,
          result: expect.anything(),
        })
      },
    )

    test.each(Object.entries(HTTP_CLIENTS))('%s learns which scope it lacks', async (_, connect) => {
      const client = await (connect as Connect)({ url: suite.server.url, token: TOKENS.reader, env: {} })
      const call = client.callTool({ name: 'generate_image', arguments: TINY })
      await expect(call).rejects.toThrow(/image:generate/)
      expect(await client.callTool({ name: 'list_images', arguments: {} })).toMatchObject({
        structuredContent: { images: [] },
      })
      await client.close()
    })

    test('who may make but not read gets the picture in the answer, and no task that it could not ask for', async () => {
      const call = {
        method: 'tools/call',
        params: { name: 'generate_image', arguments: { ...TINY, num_inference_steps: 5, model: 'slow' } },
        capabilities: { extensions: { 'io.modelcontextprotocol/tasks': {} } },
      }
      const waited = await rpc(suite.server.url, { ...call, token: TOKENS.maker })
      expect(waited.result).toMatchObject({ structuredContent: { state: 'succeeded' } })
      const task = await rpc(suite.server.url, { ...call, token: TOKENS.alice })
      expect(task.result).toMatchObject({ resultType: 'task' })
    })
  })
}
