/** The one guarded server that all topics of authentication speak to, and the routes that it has. */
import { afterAll, beforeAll } from 'vitest'
import { type GuardedServer, routesOf, startGuardedServer, TOKENS } from '../../support/guarded-server.ts'
import type { Engine } from '../../support/process.ts'

/** What everybody may see. */
export const OPEN = ['GET /health', 'GET /ready', 'GET /metrics']
export const METADATA = [
  'GET /.well-known/oauth-protected-resource',
  'GET /.well-known/oauth-protected-resource/mcp',
]
/** A token that has this scope and no other. */
export const HOLDERS: Record<string, string> = {
  'image:generate': TOKENS.maker,
  'image:read': TOKENS.reader,
  'data:read': TOKENS.analyst,
}

export const nameOf = ({ method, path }: { method: string; path: string }) => `${method} ${path}`

/** What the topics of authentication work with. */
export type AuthSuite = ReturnType<typeof createAuthSuite>

/** Starts the server before all tests, and stops it after them. Call it within a `describe`. */
export function createAuthSuite(engine: Engine) {
  let server: GuardedServer
  let routes: { method: string; path: string }[]

  beforeAll(async () => {
    server = await startGuardedServer(engine)
    routes = await routesOf(server.env)
  })
  afterAll(() => server?.stop())

  return {
    engine,
    get server() {
      return server
    },
    get routes() {
      return routes
    },
    /** The routes that are not open to all. */
    guarded: () => routes.filter((route) => ![...OPEN, ...METADATA].includes(nameOf(route))),
    send: (
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
    },
    post: (path: string, body: unknown, token: string, headers: Record<string, string> = {}) =>
      fetch(server.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, ...headers },
        body: JSON.stringify(body),
      }),
  }
}
