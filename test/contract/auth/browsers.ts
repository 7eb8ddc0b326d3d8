/** Pages of allowed origins, and of all others. */
import { describe, expect, test } from 'vitest'
import { ALLOWED_ORIGIN, TOKENS } from '../../support/guarded-server.ts'
import { type AuthSuite, nameOf } from './server.ts'

export function browsers(suite: AuthSuite): void {
  const { send } = suite
  describe('browsers', () => {
    const preflight = (origin: string, path: string) =>
      fetch(suite.server.url + path, {
        method: 'OPTIONS',
        headers: {
          origin,
          'access-control-request-method': 'POST',
          'access-control-request-headers':
            'authorization,content-type,mcp-protocol-version,mcp-method,mcp-name',
        },
      })

    test('of an allowed origin may ask before they have a token, on every route', async () => {
      for (const route of suite.routes) {
        const answer = await preflight(ALLOWED_ORIGIN, route.path.replace(':id', 'nothing'))
        expect([nameOf(route), answer.status]).toEqual([nameOf(route), 204])
        expect(answer.headers.get('access-control-allow-origin')).toBe(ALLOWED_ORIGIN)
        expect(answer.headers.get('access-control-allow-methods')).toContain(route.method)
        expect(answer.headers.get('access-control-allow-headers')).toMatch(/authorization.*mcp-name/i)
        expect(answer.headers.get('access-control-allow-credentials')).toBeNull()
        expect(answer.headers.get('vary')).toMatch(/Origin/)
      }
    })

    test('may read the answers, refusals included, and the headers that they need', async () => {
      const refused = await fetch(`${suite.server.url}/api/queue`, { headers: { origin: ALLOWED_ORIGIN } })
      const served = await fetch(`${suite.server.url}/mcp`, {
        method: 'POST',
        headers: {
          origin: ALLOWED_ORIGIN,
          authorization: `Bearer ${TOKENS.alice}`,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
        },
        body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }),
      })
      expect([refused.status, served.status]).toEqual([401, 200])
      for (const { headers } of [refused, served]) {
        expect(headers.get('access-control-allow-origin')).toBe(ALLOWED_ORIGIN)
        const exposed = headers.get('access-control-expose-headers')?.split(',')
        expect(exposed).toEqual(
          expect.arrayContaining([
            'WWW-Authenticate',
            'Retry-After',
            'Location',
            'X-Request-Id',
            'Mcp-Session-Id',
          ]),
        )
        expect(headers.get('x-request-id')).toBeTruthy()
      }
    })

    test('of other origins get nothing, token or not, on every route', async () => {
      for (const route of suite.routes)
        for (const origin of ['https://evil.example', 'null', `${ALLOWED_ORIGIN}.evil.example`]) {
          const path = route.path.replace(':id', 'nothing')
          for (const answer of [
            await preflight(origin, path),
            await send(route, { token: TOKENS.alice, headers: { origin } }),
          ]) {
            expect([nameOf(route), origin, answer.status]).toEqual([nameOf(route), origin, 403])
            expect(answer.headers.get('access-control-allow-origin')).toBeNull()
          }
        }
    })

    test('answers vary by origin also without one, so that no cache gives one to the other', async () => {
      expect((await send({ method: 'GET', path: '/health' })).headers.get('vary')).toMatch(/Origin/)
    })
  })
}
