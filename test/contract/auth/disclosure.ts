/** What the server tells to whom: metadata to all, a token to nobody. */
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, test } from 'vitest'
import { eventually } from '../../support/eventually.ts'
import { PUBLIC_URL, rawRequest, startGuardedServer, TOKENS } from '../../support/guarded-server.ts'
import { TINY } from '../../support/requests.ts'
import type { AuthSuite } from './server.ts'

export function disclosure(suite: AuthSuite): void {
  const { engine, send } = suite
  describe('for clients that look for a token', () => {
    test('the metadata speaks of the public URL alone, whatever the request says', async () => {
      for (const path of ['', '/mcp']) {
        const answer = await rawRequest(suite.server.url, {
          path: `/.well-known/oauth-protected-resource${path}`,
          headers: { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'http', host: 'localhost' },
        })
        expect(JSON.parse(answer.body)).toEqual({
          resource: PUBLIC_URL + path,
          authorization_servers: [suite.server.issuer.issuer],
          scopes_supported: ['image:generate', 'image:read', 'data:read'],
          bearer_methods_supported: ['header'],
          resource_name: 'diffusers-mcp',
        })
      }
    })
  })

  test('the client’s token never goes upstream', async () => {
    const heard: { headers: IncomingMessage['headers']; body: string }[] = []
    const runtime = createServer(async (request, response) => {
      let body = ''
      for await (const chunk of request) body += chunk
      heard.push({ headers: request.headers, body })
      response.writeHead(500).end('{"error":"no"}')
    })
    await new Promise<void>((resolve) => runtime.listen(0, '127.0.0.1', resolve))
    const url = `http://127.0.0.1:${(runtime.address() as AddressInfo).port}`
    const own = await startGuardedServer(engine, {
      RUNTIMES: JSON.stringify([{ name: 'listening', kind: 'kserve', url }]),
    })
    const token = await own.issuer.token({ sub: 'alice' })
    for (const bearer of [TOKENS.alice, token])
      await fetch(`${own.url}/api/images`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${bearer}` },
        body: JSON.stringify(TINY),
      })
    await own.stop()
    runtime.closeAllConnections()
    runtime.close()
    expect(heard.filter(({ body }) => body.includes('lighthouse')).length).toBeGreaterThanOrEqual(2)
    for (const { headers } of heard) expect(headers).not.toHaveProperty('authorization')
    for (const bearer of [TOKENS.alice, token]) expect(JSON.stringify(heard)).not.toContain(bearer)
  })

  test('no token appears in the log, at any level', async () => {
    await send({ method: 'GET', path: '/api/queue' }, { query: `?token=${TOKENS.alice}&${TOKENS.bob}` })
    await eventually(() => expect(JSON.stringify(suite.server.log)).toContain('access_token=[redacted]'))
    const log = JSON.stringify(suite.server.log)
    for (const token of Object.values(TOKENS)) expect(log).not.toContain(token)
    expect(log).not.toMatch(/eyJ[\w-]+\.[\w-]+/)
  })
}
