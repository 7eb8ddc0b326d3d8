/** Who is let in, to what, and to whose: tokens, scopes, callers, limits, origins. Run against real processes. */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { UnsecuredJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Connect, HTTP_CLIENTS } from '../support/clients.ts'
import { eventually } from '../support/eventually.ts'
import {
  ALLOWED_ORIGIN,
  type GuardedServer,
  PUBLIC_URL,
  rawRequest,
  routesOf,
  rpc,
  startGuardedServer,
  TOKENS,
} from '../support/guarded-server.ts'
import { type Engine, startServer } from '../support/process.ts'
import { ERROR_META, SCOPED_METHODS, TINY } from '../support/requests.ts'

const SLOW = { ...TINY, model: 'slow', num_inference_steps: 200 }

/** What everybody may see. */
const OPEN = ['GET /health', 'GET /ready', 'GET /metrics']
const METADATA = [
  'GET /.well-known/oauth-protected-resource',
  'GET /.well-known/oauth-protected-resource/mcp',
]
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
const HOLDERS: Record<string, string> = {
  'image:generate': TOKENS.maker,
  'image:read': TOKENS.reader,
  'data:read': TOKENS.analyst,
}

/** The suite for one engine. */
export function authContract(engine: Engine): void {
  let server: GuardedServer
  let routes: { method: string; path: string }[]

  beforeAll(async () => {
    server = await startGuardedServer(engine)
    routes = await routesOf(server.env)
  })
  afterAll(() => server?.stop())

  const send = (
    route: { method: string; path: string },
    options: { token?: string | undefined; query?: string; headers?: Record<string, string> } = {},
  ) => {
    const { token, query = '', headers = {} } = options
    return fetch(`${server.url}${route.path.replace(':id', 'nothing')}${query}`, {
      method: route.method,
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(route.method === 'POST' ? { 'content-type': 'application/json' } : {}),
        ...headers,
      },
      ...(route.method === 'POST' ? { body: '{}' } : {}),
    })
  }
  const post = (path: string, body: unknown, token: string, headers: Record<string, string> = {}) =>
    fetch(server.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, ...headers },
      body: JSON.stringify(body),
    })
  const nameOf = ({ method, path }: { method: string; path: string }) => `${method} ${path}`
  const guarded = () => routes.filter((route) => ![...OPEN, ...METADATA].includes(nameOf(route)))

  test('the router has routes that are open to all, and others, and no third kind', () => {
    const known = [...OPEN, ...METADATA, ...BY_TOOL, ...Object.keys(SCOPES)]
    expect(routes.map(nameOf).sort()).toEqual(known.sort())
  })

  describe('on every route', () => {
    const now = () => Math.floor(Date.now() / 1000)
    const jwt = (options: Partial<Parameters<GuardedServer['issuer']['token']>[0]> = {}) =>
      server.issuer.token({ sub: 'mallory', ...options })
    const unsigned = (alg: string) => {
      const header = Buffer.from(JSON.stringify({ alg, typ: 'JWT' })).toString('base64url')
      const { issuer, audience } = server.issuer
      const claims = { iss: issuer, aud: audience, sub: 'mallory', scope: 'image:read', exp: now() + 300 }
      return `${header}.${new UnsecuredJWT(claims).encode().split('.')[1]}.`
    }
    const hmac = async () => {
      const { SignJWT } = await import('jose')
      return await new SignJWT({ sub: 'mallory', scope: 'image:read' })
        .setProtectedHeader({ alg: 'HS256', kid: 'this-year' })
        .setIssuer(server.issuer.issuer)
        .setAudience(server.issuer.audience)
        .setExpirationTime('5m')
        .sign(new TextEncoder().encode(server.issuer.publicPem))
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

  describe('scopes of tools and methods', () => {
    test('every tool says its scope, and asks for it, over REST and MCP', async () => {
      const { result } = await rpc(server.url, { token: TOKENS.analyst, method: 'tools/list' })
      const tools = result?.tools as { name: string; _meta: Record<string, string> }[]
      expect(tools.length).toBeGreaterThanOrEqual(5)
      for (const { name, _meta } of tools) {
        const needed = _meta['io.github.diffusers-mcp/scope'] as string
        expect(Object.keys(HOLDERS)).toContain(needed)
        for (const [scope, token] of Object.entries(HOLDERS)) {
          const refused = scope !== needed
          const overRest = await post('/api/tools/execute', { tool: name, params: { nothing: 1 } }, token)
          const overMcp = await rpc(server.url, {
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
        const { status } = await rpc(server.url, { token, method, params })
        expect([scope, status === 403]).toEqual([scope, scope !== needed])
      }
    })

    test.each(['tools/list', 'prompts/list', 'resources/templates/list'])(
      '%s is open to every caller, so that hosts can ask for more',
      async (method) => {
        expect(await rpc(server.url, { token: TOKENS.analyst, method })).toMatchObject({
          status: 200,
          result: expect.anything(),
        })
      },
    )

    test.each(Object.entries(HTTP_CLIENTS))('%s learns which scope it lacks', async (_, connect) => {
      const client = await (connect as Connect)({ url: server.url, token: TOKENS.reader, env: {} })
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
      const waited = await rpc(server.url, { ...call, token: TOKENS.maker })
      expect(waited.result).toMatchObject({ structuredContent: { state: 'succeeded' } })
      const task = await rpc(server.url, { ...call, token: TOKENS.alice })
      expect(task.result).toMatchObject({ resultType: 'task' })
    })
  })

  describe('callers', () => {
    let picture: string
    let job: string
    let others: Record<string, string>

    beforeAll(async () => {
      const made = (await (await post('/api/images', { ...TINY, seed: 1 }, TOKENS.alice)).json()) as {
        image_id: string
      }
      picture = made.image_id
      const running = await post('/api/images', SLOW, TOKENS.alice, {
        prefer: 'respond-async',
        'idempotency-key': 'alice-1',
      })
      job = ((await running.json()) as { job_id: string }).job_id
      others = {
        'another name': TOKENS.bob,
        'the nameless token': TOKENS.default,
        'a JWT': await server.issuer.token({ sub: 'bob' }),
        'a JWT of the same name': await server.issuer.token({ sub: 'alice' }),
        'a JWT of the same id': await server.issuer.token({ sub: 'token:alice' }),
      }
    })
    afterAll(async () => {
      await fetch(`${server.url}/api/jobs/${job}`, {
        method: 'DELETE',
        headers: { authorization: `Bearer ${TOKENS.alice}` },
      })
    })

    test('reach no other caller’s job or picture by any route that takes an id', async () => {
      const byId = guarded().filter(({ path }) => path.includes(':id'))
      expect(byId.length).toBeGreaterThanOrEqual(5)
      for (const [who, token] of Object.entries(others))
        for (const { method, path } of byId)
          for (const id of [picture, job]) {
            const answer = await fetch(server.url + path.replace(':id', id), {
              method,
              headers: { authorization: `Bearer ${token}` },
            })
            expect([who, method, path, answer.status]).toEqual([who, method, path, 404])
          }
    })

    test('nor by any tool, resource or task', async () => {
      const calls: [string, Record<string, unknown>][] = [
        ['tools/call', { name: 'get_image_job', arguments: { job_id: job, wait_seconds: 0 } }],
        ['tools/call', { name: 'cancel_image_job', arguments: { job_id: job } }],
        ['resources/read', { uri: `image://${picture}` }],
        ['tasks/get', { taskId: job }],
        ['tasks/update', { taskId: job, inputResponses: {} }],
        ['tasks/cancel', { taskId: job }],
      ]
      for (const [who, token] of Object.entries(others))
        for (const [method, params] of calls) {
          const { result, error } = await rpc(server.url, { token, method, params })
          if (method === 'tools/call')
            expect(result?._meta, who).toMatchObject({ [ERROR_META]: { code: 'not_found' } })
          else expect(error?.message, `${who}: ${method}`).toMatch(/not found|no job/i)
        }
    })

    test('nor by a listing', async () => {
      for (const [who, token] of Object.entries(others)) {
        const listings = [
          await (
            await fetch(`${server.url}/images`, { headers: { authorization: `Bearer ${token}` } })
          ).text(),
          await (await post('/api/tools/execute', { tool: 'list_images' }, token)).text(),
          JSON.stringify(await rpc(server.url, { token, method: 'resources/list' })),
          JSON.stringify(
            await rpc(server.url, { token, method: 'tools/call', params: { name: 'list_images' } }),
          ),
        ]
        for (const listing of listings) {
          expect(listing, who).toMatch(/images|resources/)
          expect(listing, who).not.toContain(picture)
        }
      }
    })

    test('nor by an idempotency key or an equal request', async () => {
      for (const token of Object.values(others)) {
        const made = await post('/api/images', { ...TINY, seed: 1 }, token, { 'idempotency-key': 'alice-1' })
        const answer = (await made.json()) as { image_id: string; job_id: string }
        expect(answer).toMatchObject({ state: 'succeeded' })
        expect([picture, job]).not.toContain(answer.image_id)
        expect([picture, job]).not.toContain(answer.job_id)
      }
    })

    test('nor by a link that is not for it', async () => {
      const { url } = (await (await post('/api/images', { ...TINY, seed: 2 }, TOKENS.bob)).json()) as {
        url: string
      }
      const { search, pathname } = new URL(url)
      const own = pathname.slice(new URL(PUBLIC_URL).pathname.length)
      expect((await fetch(server.url + own + search)).status).toBe(200)
      const foreign = `/images/${picture}`
      for (const [method, path] of [
        ['GET', foreign],
        ['GET', `${own}/metadata`],
        ['GET', `${foreign}/metadata`],
        ['GET', '/images'],
        ['GET', `/api/jobs/${job}`],
        ['DELETE', own],
        ['HEAD', foreign],
      ] as const) {
        const { status } = await fetch(server.url + path + search, { method })
        expect([method, path, [401, 403].includes(status)]).toEqual([method, path, true])
      }
    })

    test('and after all of that the owner still has both', async () => {
      const headers = { authorization: `Bearer ${TOKENS.alice}` }
      expect((await fetch(`${server.url}/images/${picture}`, { headers })).status).toBe(200)
      expect(await (await fetch(`${server.url}/api/jobs/${job}`, { headers })).json()).toMatchObject({
        state: expect.stringMatching(/queued|running/),
      })
    })
  })

  test('a changed file of tokens is followed while the server runs', async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'tokens-')), 'tokens.json')
    const write = (token: string) =>
      writeFileSync(file, JSON.stringify([{ name: 'studio', token, scopes: ['image:read'] }]))
    const [first, second] = ['the-token-of-last-month', 'the-token-of-this-month'] as const
    write(first)
    const { AUTH_TOKENS: _, ...env } = server.env
    const own = await startServer(engine, { ...env, AUTH_TOKENS_FILE: file, PUBLIC_URL: '' })
    const status = async (token: string) =>
      (await fetch(`${own.url}/api/queue`, { headers: { authorization: `Bearer ${token}` } })).status
    expect([await status(first), await status(second)]).toEqual([200, 401])
    write(second)
    await eventually(async () => expect([await status(first), await status(second)]).toEqual([401, 200]))
    writeFileSync(file, '[{"half":')
    await eventually(async () => {
      expect(await status(second)).toBe(200)
      expect(JSON.stringify(own.log)).toContain('the last good list stays')
    })
    await own.stop()
  })

  describe('an outage of the issuer', () => {
    test('stops neither known callers nor new tokens of its known keys', async () => {
      const own = await startGuardedServer(engine)
      const queue = async (sub: string) =>
        (
          await fetch(`${own.url}/api/queue`, {
            headers: { authorization: `Bearer ${await own.issuer.token({ sub })}` },
          })
        ).status
      expect(await queue('early')).toBe(200)
      expect(own.issuer.requests()).toBe(1)
      await own.issuer.stop()
      expect(await queue('late')).toBe(200)
      await own.stop()
    })

    test('before the first key: 503 with Retry-After for JWTs; static tokens work', async () => {
      const own = await startGuardedServer(engine)
      const token = await own.issuer.token({ sub: 'early' })
      await own.issuer.stop()
      const queue = (bearer: string) =>
        fetch(`${own.url}/api/queue`, { headers: { authorization: `Bearer ${bearer}` } })
      const answer = await queue(token)
      expect(answer.status).toBe(503)
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
      expect((await queue(TOKENS.alice)).status).toBe(200)
      await own.stop()
    })
  })

  describe('limits', () => {
    const LIMIT = 20
    let limited: GuardedServer
    beforeAll(async () => {
      limited = await startGuardedServer(engine, { RATE_LIMIT_PER_MINUTE: String(LIMIT) })
    })
    afterAll(() => limited?.stop())
    const queue = (headers: Record<string, string>) => fetch(`${limited.url}/api/queue`, { headers })
    const statuses = async (count: number, headers: Record<string, string>) => {
      const answers = await Promise.all(Array.from({ length: count }, () => queue(headers)))
      return answers.map(({ status }) => status)
    }

    test('a caller over its limit gets 429 with Retry-After, over REST and MCP; others are served', async () => {
      const alice = { authorization: `Bearer ${TOKENS.alice}` }
      const seen = await statuses(LIMIT + 10, alice)
      expect(seen.filter((status) => status === 200).length).toBeGreaterThanOrEqual(LIMIT)
      expect(seen).toContain(429)
      await eventually(async () => {
        const refused = await queue(alice)
        expect(refused.status).toBe(429)
        expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
        expect(await refused.json()).toMatchObject({ code: 'rate_limited' })
      })
      await eventually(async () =>
        expect(await rpc(limited.url, { token: TOKENS.alice, method: 'tools/list' })).toMatchObject({
          status: 429,
          error: { data: { code: 'rate_limited', retry_after_seconds: expect.any(Number) } },
        }),
      )
      expect((await queue({ authorization: `Bearer ${TOKENS.bob}` })).status).toBe(200)
      expect((await fetch(`${limited.url}/health`)).status).toBe(200)
    })

    test('failed authentications are limited whatever headers say, and lock no good caller out', async () => {
      const forged = (index: number) => ({
        authorization: `Bearer a-guess-at-somebodys-token-${index}`,
        'x-forwarded-for': `203.0.113.${index}`,
        forwarded: `for=203.0.113.${index}`,
        'x-real-ip': `203.0.113.${index}`,
      })
      const answers = await Promise.all(
        Array.from({ length: LIMIT + 10 }, (_, index) => queue(forged(index))),
      )
      expect(answers.map(({ status }) => status)).toContain(429)
      expect((await queue({ authorization: `Bearer ${TOKENS.reader}` })).status).toBe(200)
      const jwt = await limited.issuer.token({ sub: 'new' })
      expect((await queue({ authorization: `Bearer ${jwt}` })).status).toBe(200)
    })

    // Elsewhere 127.0.0.2 has to be set up first.
    test.skipIf(process.platform !== 'linux')(
      'failures count by the address that they come from',
      async () => {
        const knock = async (from: string) =>
          (await rawRequest(limited.url, { path: '/api/queue', headers: { host: 'localhost' }, from })).status
        await eventually(async () => expect(await knock('127.0.0.2')).toBe(429))
        expect(await knock('127.0.0.3')).toBe(401)
      },
    )
  })

  describe('browsers', () => {
    const preflight = (origin: string, path: string) =>
      fetch(server.url + path, {
        method: 'OPTIONS',
        headers: {
          origin,
          'access-control-request-method': 'POST',
          'access-control-request-headers':
            'authorization,content-type,mcp-protocol-version,mcp-method,mcp-name',
        },
      })

    test('of an allowed origin may ask before they have a token, on every route', async () => {
      for (const route of routes) {
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
      const refused = await fetch(`${server.url}/api/queue`, { headers: { origin: ALLOWED_ORIGIN } })
      const served = await fetch(`${server.url}/mcp`, {
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
      for (const route of routes)
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

  describe('for clients that look for a token', () => {
    test('the metadata speaks of the public URL alone, whatever the request says', async () => {
      for (const path of ['', '/mcp']) {
        const answer = await rawRequest(server.url, {
          path: `/.well-known/oauth-protected-resource${path}`,
          headers: { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'http', host: 'localhost' },
        })
        expect(JSON.parse(answer.body)).toEqual({
          resource: PUBLIC_URL + path,
          authorization_servers: [server.issuer.issuer],
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
    await eventually(() => expect(JSON.stringify(server.log)).toContain('access_token=[redacted]'))
    const log = JSON.stringify(server.log)
    for (const token of Object.values(TOKENS)) expect(log).not.toContain(token)
    expect(log).not.toMatch(/eyJ[\w-]+\.[\w-]+/)
  })
}
