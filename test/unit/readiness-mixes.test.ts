/** Which mix of toolsets, in which state, makes a server ready: the table, from the environment to /ready. */
import { createServer } from 'node:http'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadConfig } from '../../src/config/config.ts'
import { createParts } from '../../src/parts.ts'
import { freePorts } from '../support/ports.ts'

const log = pino({ level: 'silent' })

/** Of things that are not there. */
let closed: number
let runtime: Server
let trino: Server

interface Server {
  readonly url: string
  close(): Promise<void>
}

beforeAll(async () => {
  ;[closed] = (await freePorts(1)) as [number]
  runtime = await serve({ ready: true })
  trino = await serve({ starting: false })
})
afterAll(() => Promise.all([runtime.close(), trino.close()]))

/** A server whose every answer is the same. */
async function serve(answer: object): Promise<Server> {
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify(answer))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  return {
    url: `http://127.0.0.1:${port}`,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  }
}

const PARTS = {
  'image up': () => ({ DIFFUSERS_RUNTIME_URL: runtime.url }),
  'image down': () => ({ DIFFUSERS_RUNTIME_URL: `http://127.0.0.1:${closed}` }),
  'default image': () => ({}),
  'trino up': () => ({ TRINO_URL: trino.url, TRINO_USER: 'test' }),
  'trino down': () => ({ TRINO_URL: `http://127.0.0.1:${closed}`, TRINO_USER: 'test' }),
  'xdp down': () => ({
    XDP_BASE_URL: `http://127.0.0.1:${closed}`,
    XDP_ACCESS_KEY: 'access',
    XDP_SECRET_KEY: 'secret',
  }),
  'job store down': () => ({
    JOBS_BACKEND: 'valkey',
    VALKEY_URL: `redis://127.0.0.1:${closed}`,
    IMAGE_URL_KEY: 'one-key-for-the-links-of-these-tests',
    IMAGES_BACKEND: 'valkey',
    MCP_AUTH_TOKEN: 'a-token-of-these-tests-only',
  }),
}
type Part = keyof typeof PARTS

test.concurrent.each<{ mix: Part[]; ready: boolean }>([
  { mix: ['default image'], ready: true },
  { mix: ['image up'], ready: true },
  { mix: ['image down'], ready: false },
  // Data alone: the default image target is an extra, and hides nothing.
  { mix: ['default image', 'trino up'], ready: true },
  { mix: ['default image', 'trino down'], ready: false },
  { mix: ['default image', 'xdp down'], ready: false },
  { mix: ['default image', 'trino up', 'xdp down'], ready: true },
  { mix: ['default image', 'trino down', 'xdp down'], ready: false },
  // Both: one usable toolset is worth the traffic.
  { mix: ['image up', 'trino up'], ready: true },
  { mix: ['image up', 'trino down'], ready: true },
  { mix: ['image down', 'trino up'], ready: true },
  { mix: ['image down', 'trino down'], ready: false },
  // A store that pictures need.
  { mix: ['image up', 'job store down'], ready: false },
  { mix: ['image up', 'job store down', 'trino up'], ready: true },
  { mix: ['image up', 'job store down', 'trino down'], ready: false },
  { mix: ['default image', 'job store down'], ready: false },
])('$mix: ready $ready', async ({ mix, ready }) => {
  const env = Object.assign({}, ...mix.map((part) => PARTS[part]()))
  const parts = await createParts({ config: loadConfig(env), log })
  try {
    parts.listening({ port: 1 })
    const response = await parts.app.request('/ready', { headers: { host: '127.0.0.1' } })
    const report = (await response.json()) as { status: string; dependencies: Record<string, unknown> }
    expect({ mix, report, status: response.status }).toMatchObject({ status: ready ? 200 : 503 })
    // What does not count is told all the same.
    expect(Object.keys(report.dependencies).filter((name) => name.startsWith('runtime:'))).toHaveLength(1)
  } finally {
    await parts.close()
  }
})
