import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadConfig } from '../../src/config/config.ts'
import { createParts, type Parts } from '../../src/parts.ts'

type Document = { paths: Record<string, Record<string, { responses: object; security?: object[] }>> }

/** Methods and paths as Hono has them, and as the document writes them. */
const registered = ({ app }: Parts) =>
  [
    ...new Set(
      app.routes
        .filter(({ method }) => method !== 'ALL')
        .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`),
    ),
  ].sort()
const documented = ({ paths }: Document) =>
  Object.entries(paths)
    .flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
    )
    .sort()

const DATA = {
  TRINO_URL: 'http://127.0.0.1:9',
  TRINO_USER: 'reader',
  XDP_BASE_URL: 'http://127.0.0.1:9/xdp-cp-service/api',
  XDP_ACCESS_KEY: 'key',
  XDP_SECRET_KEY: 'secret',
}

describe.each<[string, Record<string, string>]>([
  ['with pictures alone', {}],
  ['with every toolset', DATA],
  ['with Trino alone', { TRINO_URL: DATA.TRINO_URL, TRINO_USER: 'reader' }],
  ['with authentication and metrics elsewhere', { MCP_AUTH_TOKEN: 'a-token-long-enough', METRICS_PORT: '0' }],
])('a server %s', (_, env) => {
  let parts: Parts
  let document: Document
  beforeAll(async () => {
    parts = await createParts({ config: loadConfig(env), log: pino({ level: 'silent' }) })
    const headers: Record<string, string> = env.MCP_AUTH_TOKEN
      ? { authorization: `Bearer ${env.MCP_AUTH_TOKEN}` }
      : {}
    const response = await parts.app.request('http://127.0.0.1:8080/openapi.json', {
      headers: { host: '127.0.0.1:8080', ...headers },
    })
    expect(response.status).toBe(200)
    document = (await response.json()) as Document
  })
  afterAll(() => parts.close())

  test('documents every route that it has, and no other', () => {
    expect(documented(document)).toEqual(registered(parts))
    expect(documented(document).length).toBeGreaterThan(10)
  })

  test('names each tool that it has, and no other', () => {
    const text = JSON.stringify(document.paths['/api/tools/execute'])
    const named = [...text.matchAll(/"tool":\{"const":"(\w+)"\}/g)].map(([, name]) => name)
    const tools = [...parts.mcpParts.toolCaller.tools.keys()]
    expect(new Set(named)).toEqual(new Set(tools))
  })

  test('demands a token where it does, and not where probes go', () => {
    const { security } = document as unknown as { security?: object[] }
    expect(security).toEqual(env.MCP_AUTH_TOKEN ? [{ bearer: [] }] : undefined)
    expect(document.paths['/health']?.get?.security).toEqual([])
  })
})

test('the data routes ask for the scope data:read', async () => {
  const tokens = [
    { name: 'painter', token: 'a-token-for-pictures', scopes: ['image:generate', 'image:read'] },
    { name: 'analyst', token: 'a-token-for-data-only', scopes: ['data:read'] },
  ]
  const env = { ...DATA, AUTH_TOKENS: JSON.stringify(tokens) }
  const parts = await createParts({ config: loadConfig(env), log: pino({ level: 'silent' }) })
  const statusOf = async (method: string, path: string, token: string) => {
    const headers = { host: '127.0.0.1:8080', authorization: `Bearer ${token}` }
    const body = method === 'POST' ? { body: '{}' } : {}
    const response = await parts.app.request(`http://127.0.0.1:8080${path}`, {
      method,
      headers: { ...headers, 'content-type': 'application/json' },
      ...body,
    })
    return response.status
  }
  for (const [method, path] of [
    ['POST', '/api/trino/query'],
    ['GET', '/api/xdp/datastores?size=0'],
  ] as const) {
    expect(await statusOf(method, path, 'a-token-for-pictures')).toBe(403)
    // Past the scope, the arguments are looked at.
    expect(await statusOf(method, path, 'a-token-for-data-only')).toBe(400)
  }
  await parts.close()
})
