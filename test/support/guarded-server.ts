/** A server with every means of authentication on, and what tests need to knock at its doors. */
import { request as httpRequest } from 'node:http'
import { pino } from 'pino'
import { loadConfig } from '../../src/config/config.ts'
import { createParts } from '../../src/parts.ts'
import { type Issuer, startIssuer } from '../fakes/issuer.ts'
import { type Engine, type Running, startServer } from './process.ts'
import { readRpc } from './requests.ts'

export const PUBLIC_URL = 'https://mcp.example.com/images'
export const ALLOWED_ORIGIN = 'https://app.example.com'

/** Static tokens by name. */
export const TOKENS = {
  alice: 'the-static-token-of-alice',
  bob: 'the-static-token-of-bob',
  maker: 'may-make-and-nothing-else',
  reader: 'may-read-and-nothing-else',
  analyst: 'may-see-data-and-nothing-else',
  former: 'had-a-token-until-last-year',
  default: 'the-token-without-any-name',
} as const
const ALL = ['image:generate', 'image:read', 'data:read']

export interface GuardedServer extends Running {
  readonly issuer: Issuer
  readonly env: Record<string, string>
}

/** Starts an issuer and a server that trusts it; `env` adds to the server's settings. */
export async function startGuardedServer(
  engine: Engine,
  env: Record<string, string> = {},
): Promise<GuardedServer> {
  const issuer = await startIssuer({ audience: `${PUBLIC_URL}/mcp` })
  const named = {
    alice: ALL,
    bob: ALL,
    maker: ALL.slice(0, 1),
    reader: ALL.slice(1, 2),
    analyst: ALL.slice(2),
  }
  const all = {
    LOG_LEVEL: 'debug',
    PUBLIC_URL,
    ALLOWED_ORIGINS: ALLOWED_ORIGIN,
    RATE_LIMIT_PER_MINUTE: '1000000',
    MCP_AUTH_TOKEN: TOKENS.default,
    AUTH_TOKENS: JSON.stringify([
      ...Object.entries(named).map(([name, scopes]) => ({
        name,
        token: TOKENS[name as keyof typeof TOKENS],
        scopes,
      })),
      { name: 'former', token: TOKENS.former, scopes: ALL, expires: '2025-12-31T00:00:00Z' },
    ]),
    AUTH_JWT_JWKS_URL: issuer.jwksUrl,
    AUTH_JWT_ISSUER: issuer.issuer,
    AUTH_JWT_AUDIENCE: issuer.audience,
    RUNTIMES: JSON.stringify([
      { name: 'quick', kind: 'simulated', options: { msPerStep: 1 }, concurrency: 8, queue: 100 },
      { name: 'slow', kind: 'simulated', options: { msPerStep: 300 }, concurrency: 1, queue: 10 },
    ]),
    ...env,
  }
  const server = await startServer(engine, all)
  return {
    ...server,
    issuer,
    env: all,
    // The log names the public URL; tests go to the port.
    url: `http://127.0.0.1:${await portOf(server)}`,
    async stop() {
      const code = await server.stop()
      await issuer.stop()
      return code
    },
  }
}

async function portOf({ log }: Running): Promise<number> {
  return log.find(({ event }) => event === 'listening')?.port as number
}

/** The routes of the app itself, so that no test can forget a new one. */
export async function routesOf(env: Record<string, string>): Promise<{ method: string; path: string }[]> {
  const parts = await createParts({ config: loadConfig(env), log: pino({ level: 'silent' }) })
  await parts.close()
  // Middleware is mounted on all of it; a route for every method is tried with GET.
  const routes = parts.app.routes
    .filter(({ path }) => path !== '/*')
    .map(({ method, path }) => ({ method: method === 'ALL' ? 'GET' : method, path }))
  const unique = new Map(routes.map((route) => [`${route.method} ${route.path}`, route]))
  return [...unique.values()]
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

/** A request whose path, Host and Origin go over the wire exactly as they are written: fetch would tidy them up. */
export function rawRequest(
  url: string,
  options: {
    path: string
    method?: string
    headers?: Record<string, string>
    /** The address to come from; absent: the system's choice. */
    from?: string
  },
): Promise<Answer> {
  const { path, method = 'GET', headers = {}, from } = options
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    const connection = { hostname, port, agent: false, ...(from && { localAddress: from }) }
    httpRequest({ ...connection, path, method, headers }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk) => {
        text += chunk
      })
      response.on('error', reject)
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }),
      )
    })
      .on('error', reject)
      .end()
  })
}

/**
 * One JSON-RPC request to `/mcp`, as clients of the older era send it, or with `capabilities` as those of 2026-07-28;
 * the answer, from JSON or from a stream.
 */
export async function rpc(
  url: string,
  options: {
    token?: string
    method: string
    params?: Record<string, unknown>
    id?: number
    capabilities?: Record<string, unknown>
  },
): Promise<{
  status: number
  headers: Headers
  result?: Record<string, unknown>
  error?: { code: number; message: string; data?: Record<string, unknown> }
  id?: unknown
}> {
  const { token, method, params = {}, id = 1, capabilities } = options
  const _meta = capabilities && {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
    'io.modelcontextprotocol/clientCapabilities': capabilities,
  }
  const response = await fetch(`${url}/mcp`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(_meta && {
        'mcp-protocol-version': '2026-07-28',
        'mcp-method': method,
        'mcp-name': String(params.name ?? params.uri ?? params.taskId ?? ''),
      }),
    },
    body: JSON.stringify({ jsonrpc: '2.0', id, method, params: { ...params, ...(_meta && { _meta }) } }),
  })
  return { status: response.status, headers: response.headers, ...(await readRpc(response)) }
}
