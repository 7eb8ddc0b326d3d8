/**
 * Published advisories of neighbouring systems, as attacks on this one. Each name begins with the class and its
 * number; docs/security.md has the table of all of them, those that unit tests hold included.
 */
import { connect as connectSocket } from 'node:net'
import { SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
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
import type { Engine } from '../support/process.ts'
import { TINY } from '../support/requests.ts'

/** The suite for one engine. */
export function advisoriesContract(engine: Engine): void {
  let server: GuardedServer
  beforeAll(async () => {
    server = await startGuardedServer(engine)
  })
  afterAll(() => server?.stop())

  const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
  const lives = async () => {
    expect(server.child.exitCode).toBeNull()
    expect((await fetch(`${server.url}/health`)).status).toBe(200)
  }
  /** Bytes as they are; the answer until the server closes or is silent for a moment. */
  const sendBytes = (bytes: string, { hangUpAfterMs }: { hangUpAfterMs?: number } = {}) =>
    new Promise<string>((resolve) => {
      const socket = connectSocket(Number(new URL(server.url).port), '127.0.0.1', () => socket.write(bytes))
      let text = ''
      socket.setTimeout(hangUpAfterMs ?? 300, () => socket.destroy())
      socket.on('data', (chunk) => {
        text += chunk
      })
      socket.on('error', () => {})
      socket.on('close', () => resolve(text))
    })

  test('shared transport leaks answers across clients (CVE-2026-25536): equal ids at once, each gets its own', async () => {
    const callers = await Promise.all(
      Array.from({ length: 12 }, async (_, index) => ({
        seed: 1000 + index,
        token: await server.issuer.token({ sub: `caller-${index}` }),
      })),
    )
    const own = new Map<number, Set<string>>()
    for (let round = 0; round < 3; round += 1)
      await Promise.all(
        callers.map(async ({ seed, token }) => {
          const { id, result } = await rpc(server.url, {
            token,
            id: 7,
            method: 'tools/call',
            params: { name: 'generate_image', arguments: { ...TINY, prompt: `for ${seed} ${round}`, seed } },
            ...(seed % 2 === 0 ? { capabilities: {} } : {}),
          })
          const answer = result?.structuredContent as { image_id: string; seed: number; prompt: string }
          expect([id, answer.seed, answer.prompt]).toEqual([7, seed, `for ${seed} ${round}`])
          own.set(seed, (own.get(seed) ?? new Set()).add(answer.image_id))
        }),
      )
    await Promise.all(
      callers.map(async ({ seed, token }) => {
        const { result } = await rpc(server.url, { token, id: 7, method: 'resources/list' })
        const uris = ((result?.resources ?? []) as { uri: string }[]).map(({ uri }) =>
          uri.slice('image://'.length),
        )
        expect(new Set(uris)).toEqual(own.get(seed))
      }),
    )
  })

  test('shared transport leaks answers across clients (CVE-2026-25536): what depends on the caller is for no shared cache', async () => {
    for (const method of ['resources/list', 'resources/read']) {
      const made = await rpc(server.url, {
        token: TOKENS.alice,
        method: 'tools/call',
        params: { name: 'generate_image', arguments: TINY },
      })
      const { image_id } = (made.result?.structuredContent ?? {}) as { image_id: string }
      const { result } = await rpc(server.url, {
        token: TOKENS.alice,
        method,
        params: method === 'resources/read' ? { uri: `image://${image_id}` } : {},
        capabilities: {},
      })
      expect(result).toMatchObject({ cacheScope: 'private' })
      const picture = await fetch(`${server.url}/images/${image_id}`, { headers: bearer(TOKENS.alice) })
      expect(picture.headers.get('cache-control')).toMatch(/private/)
    }
  })

  test('CPU exhaustion by a crafted URI (CVE-2026-0621): long and nested ones are answered at once', async () => {
    const hostile = [
      `image://${'a,'.repeat(15_000)}`,
      `image://${'{'.repeat(15_000)}`,
      `image://${'/'.repeat(30_000)}`,
      `image://${'%25'.repeat(9000)}`,
      `${'image://'.repeat(3000)}!`,
      `image:${'/'.repeat(30_000)}\n`,
    ]
    const started = performance.now()
    for (const uri of hostile) {
      const { error } = await rpc(server.url, {
        token: TOKENS.alice,
        method: 'resources/read',
        params: { uri },
      })
      expect(error?.message).toMatch(/not found/i)
    }
    for (const path of [
      `/images/${'a,'.repeat(3000)}`,
      `/images/${'%2e%2e%2f'.repeat(800)}`,
      `/images?${'after='.repeat(1500)}`,
      `/${'a/'.repeat(3000)}`,
    ]) {
      const { status } = await rawRequest(server.url, { path, headers: bearer(TOKENS.alice) })
      expect(status).toBeGreaterThanOrEqual(400)
      expect(status).toBeLessThan(500)
    }
    // Backtracking over 15,000 characters takes minutes; reading them takes milliseconds, on a slow machine seconds.
    expect(performance.now() - started).toBeLessThan(60_000)
  })

  test('DNS rebinding (GHSA-w48q-cv73-mx4w): no route answers another Host, or another Origin, token or not', async () => {
    for (const { method, path } of await routesOf(server.env))
      for (const headers of [
        { host: 'evil.example' },
        { host: `localhost.evil.example:${new URL(server.url).port}` },
        { host: 'localhost', origin: 'http://evil.example' },
      ] as Record<string, string>[]) {
        const { status, body } = await rawRequest(server.url, {
          method,
          path: path.replace(':id', 'x'),
          headers: { ...headers, ...bearer(TOKENS.alice) },
        })
        expect([method, path, headers.host, status]).toEqual([method, path, headers.host, 403])
        expect(body).toMatch(/ALLOWED_(HOSTS|ORIGINS)/)
      }
  })

  test('malformed request kills the server (CVE-2025-53365): it refuses each and lives', async () => {
    const head = `POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${TOKENS.alice}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n`
    for (const bytes of [
      '\0\0\0\0\r\n\r\n',
      'GET / HTTP/9.9\r\n\r\n',
      'GET http://[::1/ HTTP/1.1\r\nHost: localhost\r\n\r\n',
      'GET //// HTTP/1.1\r\nHost: localhost\r\n\r\n',
      'GET /%zz?%zz=%zz HTTP/1.1\r\nHost: localhost\r\n\r\n',
      `GET /health HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`,
      `${head}Content-Length: -1\r\n\r\n{}`,
      `${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      `${head}Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n`,
      `${head}Expect: nonsense\r\nContent-Length: 2\r\n\r\n{}`,
      `${head}Content-Length: 3\r\n\r\n\xff\xfe\xfd`,
    ]) {
      const answer = await sendBytes(bytes)
      expect(answer).not.toMatch(/^HTTP\/1\.1 (2|5)/)
      await lives()
    }
    for (const body of [
      'null',
      'true',
      '1e999',
      '"x"',
      '{}',
      '[]',
      '{"jsonrpc":"2.0"}',
      '{"jsonrpc":"2.0","id":{},"method":"tools/list"}',
      '{"jsonrpc":"2.0","id":1,"method":7}',
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}',
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"__proto__","arguments":{"__proto__":{"x":1}}}}',
      '{"jsonrpc":"2.0","id":1,"method":"constructor"}',
      '{"jsonrpc":"2.0","id":1,"result":{}}',
      '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":{}}}',
    ]) {
      const answer = await fetch(`${server.url}/mcp`, {
        method: 'POST',
        headers: {
          ...bearer(TOKENS.alice),
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
        },
        body,
      })
      expect([body, answer.status < 500]).toEqual([body, true])
      await answer.text()
      await lives()
    }
  })

  test('made-up methods make no time series', async () => {
    for (const method of ['FROBNICATE', 'PURGE'])
      await sendBytes(`${method} / HTTP/1.1\r\nHost: localhost\r\n\r\n`)
    const metrics = await (await fetch(`${server.url}/metrics`)).text()
    expect(metrics).toContain('diffusers_mcp_http_requests_total{')
    expect(metrics).not.toMatch(/FROBNICATE|PURGE/)
  })

  test('disconnect kills the server (CVE-2025-53366): callers may leave at any moment', async () => {
    const body = JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: { name: 'generate_image', arguments: { ...TINY, num_inference_steps: 100 } },
    })
    const head = [
      'POST /mcp HTTP/1.1',
      'Host: localhost',
      `Authorization: Bearer ${TOKENS.bob}`,
      'Content-Type: application/json',
      'Accept: application/json, text/event-stream',
      'Mcp-Name: generate_image',
      `Content-Length: ${body.length}`,
      '',
      '',
    ].join('\r\n')
    const request = head + body
    const cuts = [10, head.length - 2, head.length, head.length + 20, request.length - 1, request.length]
    await Promise.all(
      cuts.flatMap((cut) =>
        [1, 20, 80].map((hangUpAfterMs) => sendBytes(request.slice(0, cut), { hangUpAfterMs })),
      ),
    )
    await lives()
    await eventually(async () => {
      const answer = await fetch(`${server.url}/api/queue`, { headers: bearer(TOKENS.bob) })
      const { targets } = (await answer.json()) as { targets: { running: number; queued: number }[] }
      expect(targets[0]).toMatchObject({ running: 0, queued: 0 })
    })
    expect(await rpc(server.url, { token: TOKENS.bob, method: 'tools/list' })).toMatchObject({ status: 200 })
  })

  describe('case-insensitive JSON keys (CVE-2026-27896)', () => {
    const send = (path: string, body: string, token: string = TOKENS.analyst) =>
      fetch(server.url + path, {
        method: 'POST',
        headers: {
          ...bearer(token),
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
        },
        body,
      })

    test('case-insensitive JSON keys (CVE-2026-27896): a second spelling names no other method, tool or argument', async () => {
      for (const body of [
        '{"jsonrpc":"2.0","id":1,"Method":"tools/list"}',
        '{"JSONRPC":"2.0","id":1,"method":"tools/list"}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"list_images"}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","Params":{"name":"list_images"}}',
      ])
        expect(await (await send('/mcp', body, TOKENS.alice)).text()).toMatch(/"error"/)
      expect((await send('/api/images', JSON.stringify({ Prompt: 'a' }), TOKENS.alice)).status).toBe(400)
      expect((await send('/api/images', JSON.stringify({ ...TINY, PROMPT: 'b' }), TOKENS.alice)).status).toBe(
        400,
      )
    })

    test('case-insensitive JSON keys (CVE-2026-27896): what the guard reads is what runs', async () => {
      // The guard must not see the open method and the handler the closed one, in whatever order they stand.
      const open = '"method":"prompts/list"'
      const closed = '"method":"resources/list"'
      for (const [first, second] of [
        [open, closed],
        [closed, open],
        [open, closed.replace('method', 'Method')],
        [closed.replace('method', 'METHOD'), open],
        [open, closed.replace('method', 'm\\u0065thod')],
      ]) {
        const answer = await send('/mcp', `{"jsonrpc":"2.0","id":1,${first},${second}}`)
        expect(await answer.text()).not.toContain('"resources":')
      }
      for (const names of [
        '"name":"list_image_models","Name":"x"',
        '"name":"x","name":"list_image_models"',
      ]) {
        const answer = await send(
          '/mcp',
          `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{${names}}}`,
        )
        expect(answer.status).toBe(403)
      }
    })
  })

  test('hard-coded key bypasses the JWT check (GHSA-g53w-w6mj-hrpp): secrets that everybody knows sign nothing', async () => {
    for (const secret of [
      'secret',
      'changeme',
      'your-256-bit-secret',
      'default',
      server.issuer.publicPem,
      ' ',
    ]) {
      const forged = await new SignJWT({ scope: 'image:read' })
        .setProtectedHeader({ alg: 'HS256' })
        .setSubject('alice')
        .setIssuer(server.issuer.issuer)
        .setAudience(server.issuer.audience)
        .setExpirationTime('5m')
        .sign(new TextEncoder().encode(secret))
      expect((await fetch(`${server.url}/api/queue`, { headers: bearer(forged) })).status).toBe(401)
    }
  })

  test('%2F and // bypass route middleware (CVE-2026-29087, CVE-2026-39406): no spelling of a path opens it', async () => {
    const made = await fetch(`${server.url}/api/images`, {
      method: 'POST',
      headers: { ...bearer(TOKENS.alice), 'content-type': 'application/json' },
      body: JSON.stringify(TINY),
    })
    const { image_id, url } = (await made.json()) as { image_id: string; url: string }
    const { search } = new URL(url)
    const spellings = [
      '/api/queue',
      '/images',
      `/images/${image_id}`,
      `/images/${image_id}/metadata`,
    ].flatMap((path) => [
      path,
      `/${path}`,
      `//${path}`,
      path.replaceAll('/', '//'),
      path.replaceAll('/', '%2F').replace('%2F', '/'),
      path.replaceAll('/', '%2f'),
      path.replace('a', '%61'),
      path.toUpperCase(),
      `${path}/`,
      `${path}/.`,
      `/.${path}`,
      `/health/..${path}`,
      `/health%2F..${path}`,
      `/health/%2e%2e${path}`,
      `/.well-known/oauth-protected-resource/..${path}`,
      `/health;${path}`,
      `/health?${path}`.replace('?', '%3F'),
      `${path}%00`,
      `${path};.health`,
      `\\${path}`,
      `http://localhost${path}`,
    ])
    for (const path of spellings) {
      const { status, body } = await rawRequest(server.url, { path })
      expect([path, [400, 401, 404].includes(status)]).toEqual([path, true])
      expect(body).not.toMatch(/"targets"|"images"|"image_id"|PNG/)
    }
    // A signed link opens its own picture, and no other path that looks like it.
    const link = `/images/${image_id}${search}`
    expect((await rawRequest(server.url, { path: link })).status).toBe(200)
    for (const path of [
      `/images/${image_id}/metadata${search}`,
      `/images/${image_id}%2Fmetadata${search}`,
      `/images/${image_id}/../../api/queue${search}`,
      `/images${search}`,
      `/images/%2e%2e%2fapi%2fqueue${search}`,
      `//images/${image_id}${search}`,
      `/api/jobs/${image_id}${search}`,
      `/api/queue${search}`,
      `/images/${image_id}${search}&sig=x`.replace('sig=', 'sig=x&sig='),
    ]) {
      const { status } = await rawRequest(server.url, { path })
      expect([path, [400, 401, 403, 404].includes(status)]).toEqual([path, true])
    }
  })

  test('CORS reflects any Origin with credentials (CVE-2026-54290): only allowed ones, and never with credentials', async () => {
    for (const [origin, allowed] of [
      [ALLOWED_ORIGIN, ALLOWED_ORIGIN],
      [new URL(PUBLIC_URL).origin, new URL(PUBLIC_URL).origin],
      ['https://evil.example', undefined],
      [`${ALLOWED_ORIGIN}.evil.example`, undefined],
      ['null', undefined],
    ] as const)
      for (const method of ['GET', 'OPTIONS']) {
        const { headers } = await rawRequest(server.url, {
          method,
          path: '/api/queue',
          headers: { host: 'localhost', origin, 'access-control-request-method': 'GET' },
        })
        expect(headers['access-control-allow-origin']).toBe(allowed)
        expect(headers['access-control-allow-credentials']).toBeUndefined()
      }
  })
}
