/** Every route of the router itself: who it lets in. */
import { UnsecuredJWT } from 'jose'
import { describe, expect, test } from 'vitest'
import { type GuardedServer, PUBLIC_URL, TOKENS } from '../../support/guarded-server.ts'
import { type AuthSuite, HOLDERS, METADATA, nameOf, OPEN } from './server.ts'

/** Routes that need no scope themselves: the tools and methods that they lead to do. */
const BY_TOOL = [
  'POST /mcp',
  'GET /ws',
  'POST /api/tools/list',
  'POST /api/tools/execute',
  'GET /openapi.json',
]
/** The scope of every other route. */
const SCOPES: Record<string, string> = {
  'POST /api/images': 'image:generate',
  'GET /api/jobs/:id': 'image:read',
  'DELETE /api/jobs/:id': 'image:generate',
  'GET /api/queue': 'image:read',
  'GET /images': 'image:read',
  'GET /images/:id': 'image:read',
  'GET /images/:id/metadata': 'image:read',
  'DELETE /images/:id': 'image:generate',
}

export function everyRoute(suite: AuthSuite): void {
  const { send, guarded } = suite

  test('the router has routes that are open to all, and others, and no third kind', () => {
    const known = [...OPEN, ...METADATA, ...BY_TOOL, ...Object.keys(SCOPES)]
    expect(suite.routes.map(nameOf).sort()).toEqual(known.sort())
  })

  describe('on every route', () => {
    const now = () => Math.floor(Date.now() / 1000)
    const jwt = (options: Partial<Parameters<GuardedServer['issuer']['token']>[0]> = {}) =>
      suite.server.issuer.token({ sub: 'mallory', ...options })
    const unsigned = (alg: string) => {
      const header = Buffer.from(JSON.stringify({ alg, typ: 'JWT' })).toString('base64url')
      const { issuer, audience } = suite.server.issuer
      const claims = { iss: issuer, aud: audience, sub: 'mallory', scope: 'image:read', exp: now() + 300 }
      return `${header}.${new UnsecuredJWT(claims).encode().split('.')[1]}.`
    }
    const hmac = async () => {
      const { SignJWT } = await import('jose')
      return await new SignJWT({ sub: 'mallory', scope: 'image:read' })
        .setProtectedHeader({ alg: 'HS256', kid: 'this-year' })
        .setIssuer(suite.server.issuer.issuer)
        .setAudience(suite.server.issuer.audience)
        .setExpirationTime('5m')
        .sign(new TextEncoder().encode(suite.server.issuer.publicPem))
    }

    test.each<[string, () => Promise<string> | string | undefined]>([
      ['no token', () => undefined],
      ['a wrong token', () => 'a-token-that-nobody-ever-had'],
      ['part of a token', () => TOKENS.alice.slice(0, -1)],
      ['an expired token', () => TOKENS.former],
      ['an expired JWT', () => jwt({ claims: { exp: now() - 60 } })],
      ['a JWT for another audience', () => jwt({ claims: { aud: 'https://other.example.com/mcp' } })],
      ['a JWT of another issuer', () => jwt({ claims: { iss: 'https://evil.example' } })],
      ['a JWT that never expires', () => jwt({ claims: { exp: undefined } })],
      ['a JWT signed by another key', () => jwt({ key: 'foreign' })],
      ['a JWT signed by a key that was rotated away', () => jwt({ key: 'withdrawn' })],
      ['a JWT of another algorithm (the public key as a secret)', hmac],
      ['a JWT of the algorithm "none"', () => unsigned('none')],
      ['a JWT of the algorithm "None"', () => unsigned('None')],
    ])('%s is refused with a challenge', async (_, make) => {
      const token = await make()
      for (const route of guarded()) {
        const answer = await send(route, { token })
        expect([nameOf(route), answer.status]).toEqual([nameOf(route), 401])
        const challenge = answer.headers.get('www-authenticate') ?? ''
        const suffix = route.path === '/mcp' ? '/mcp' : ''
        expect(challenge).toContain(
          `resource_metadata="${PUBLIC_URL}/.well-known/oauth-protected-resource${suffix}"`,
        )
        expect(challenge.includes('error="invalid_token"')).toBe(token !== undefined)
        await answer.body?.cancel()
      }
    })

    test.each(['alice', 'default'] as const)(
      'a good token (%s) in the query string is refused',
      async (name) => {
        for (const route of guarded())
          for (const token of [undefined, TOKENS[name]]) {
            const answer = await send(route, { token, query: `?access_token=${TOKENS[name]}` })
            expect([nameOf(route), answer.status]).toEqual([nameOf(route), 401])
          }
      },
    )

    test('any scheme accepted (CVE-2026-47673): a token counts as a bearer token only', async () => {
      for (const route of guarded())
        for (const authorization of [
          `Basic ${TOKENS.alice}`,
          `Token ${TOKENS.alice}`,
          `Basic ${Buffer.from(`:${TOKENS.alice}`).toString('base64')}`,
          TOKENS.alice,
          `Bearer ${TOKENS.alice} x`,
          `Bearer, Bearer ${TOKENS.alice}`,
        ]) {
          const answer = await send(route, { headers: { authorization } })
          expect([nameOf(route), authorization, answer.status]).toEqual([nameOf(route), authorization, 401])
        }
    })

    test('good ones come in: named, nameless, and JWTs, "bearer" in any case', async () => {
      for (const token of [TOKENS.alice, TOKENS.default, await jwt()])
        for (const route of guarded()) {
          const answer = await send(route, { headers: { authorization: `bEaReR ${token}` } })
          expect([nameOf(route), answer.status]).not.toEqual([nameOf(route), 401])
          expect([nameOf(route), answer.status]).not.toEqual([nameOf(route), 403])
          await answer.body?.cancel()
        }
    })

    test('what is open to all needs none', async () => {
      for (const name of [...OPEN, ...METADATA]) {
        const [method, path] = name.split(' ') as [string, string]
        expect([name, (await send({ method, path })).status]).toEqual([name, 200])
      }
    })

    test('a scope opens what it is for and nothing else; 403 names the one that is missing', async () => {
      for (const route of guarded()) {
        const needed = SCOPES[nameOf(route)]
        for (const [scope, token] of [...Object.entries(HOLDERS), ['', await jwt({ scope: 'openid' })]]) {
          const answer = await send(route, { token: token as string })
          const refused = needed !== undefined && scope !== needed
          expect([nameOf(route), scope, answer.status === 403]).toEqual([nameOf(route), scope, refused])
          if (refused)
            expect(answer.headers.get('www-authenticate')).toMatch(
              `Bearer error="insufficient_scope", scope="${needed}", resource_metadata="${PUBLIC_URL}/`,
            )
          await answer.body?.cancel()
        }
      }
    })
  })
}
