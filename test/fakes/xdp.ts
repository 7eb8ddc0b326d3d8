/**
 * A fake of Acceldata xDP's control plane. XDP is not public: what this does is what XDP's published MCP server (the
 * deployment guide of which names it) sent and read: header credentials, the envelope `{errorCode, success, message,
 * detailedMessage, data}`, `GET /datastore` with pages from 0, and `POST /query/execute`, whose answer is not in an
 * envelope. How XDP reports a failed query and whether its `nextUri` may be followed is not known: both are settings.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

const BASE = '/xdp-cp-service/api'

export interface FakeXdpOptions {
  /** The Trino behind it; absent: statements fail. */
  readonly trinoUrl?: string
  /** `own`: nextUri leads through XDP. `trino`: it is Trino's own, as Trino gave it. */
  readonly nextUri?: 'own' | 'trino'
  /** How Trino's error is passed on: whole, or its message in a sentence. */
  readonly errors?: 'object' | 'text'
}

export interface FakeXdp {
  readonly baseUrl: string
  readonly accessKey: string
  readonly secretKey: string
  /** Requests so far, as `GET /datastore?page=0`. */
  readonly seen: string[]
  /** Statements so far, with their data plane. */
  readonly statements: { dataplane: string; query: string }[]
  /** Answers the next requests, before anything else looks at them; it may leave a request without an answer. */
  fault: ((request: IncomingMessage, response: ServerResponse, path: string) => boolean) | undefined
  stop(): Promise<void>
}

/** Starts the fake on a free port of 127.0.0.1, with 45 datastores. */
export async function startFakeXdp(options: FakeXdpOptions = {}): Promise<FakeXdp> {
  const { trinoUrl, nextUri = 'own', errors = 'object' } = options
  const datastores = Array.from({ length: 45 }, (_, index) => ({
    id: index + 1,
    name: `store-${index + 1}`,
    type: index % 2 ? 'SNOWFLAKE' : 'HIVE',
    updatedAt: 1_700_000_000_000 + index,
  }))
  const seen: string[] = []
  const statements: FakeXdp['statements'] = []

  const server = createServer((request, response) => {
    void answer(request, response).catch((error) => {
      response.writeHead(500).end(String(error))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

  const fake: FakeXdp = {
    baseUrl: origin + BASE,
    accessKey: 'an-access-key',
    secretKey: 'a-secret-key',
    seen,
    statements,
    fault: undefined,
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', origin)
    const path = url.pathname.replace(BASE, '')
    seen.push(`${request.method} ${path}${url.search}`)
    const body = await text(request)
    if (fake.fault?.(request, response, path)) return
    const { accesskey, secretkey } = request.headers
    if (accesskey !== fake.accessKey || secretkey !== fake.secretKey)
      return envelope(response, 401, { success: false, errorCode: 401, message: 'Invalid credentials' })
    if (path === '/datastore') return listDatastores(url, response)
    if (path === '/query/execute') {
      const { engine, dataplane, query } = JSON.parse(body)
      if (engine !== 'TRINO')
        return envelope(response, 400, { success: false, errorCode: 400, message: `No engine ${engine}` })
      statements.push({ dataplane, query })
      return await execute(query, response)
    }
    if (path.startsWith('/query/next/')) {
      const next = Buffer.from(path.slice('/query/next/'.length), 'base64url').toString()
      const headers = { 'x-trino-user': 'admin' }
      if (request.method === 'DELETE') {
        await fetch(next, { method: 'DELETE', headers })
        response.writeHead(204).end()
        return
      }
      return json(response, 200, executed(await (await fetch(next, { headers })).json()))
    }
    envelope(response, 404, { success: false, errorCode: 404, message: `Nothing at ${path}` })
  }

  const listDatastores = (url: URL, response: ServerResponse) => {
    const page = Number(url.searchParams.get('page'))
    const size = Number(url.searchParams.get('size'))
    const [field = '', direction] = (url.searchParams.get('sort_by') ?? '').split(':')
    if (!(field in datastores[0]!))
      return envelope(response, 400, { success: false, errorCode: 400, message: `Cannot sort by ${field}` })
    const sorted = datastores.toSorted((a, b) => {
      const [x, y] = [a, b].map((store) => (store as Record<string, unknown>)[field] as number)
      return (x! < y! ? -1 : 1) * (direction === 'desc' ? -1 : 1)
    })
    envelope(response, 200, {
      success: true,
      data: {
        dataStores: sorted.slice(page * size, (page + 1) * size),
        meta: { size, page, count: datastores.length },
      },
    })
  }

  /** Waits for the first rows, or the end. */
  async function execute(query: string, response: ServerResponse): Promise<void> {
    if (!trinoUrl) return json(response, 200, { status: 'FAILED', error: 'No data plane', result: null })
    const headers = { 'x-trino-user': 'admin' }
    let page = await (
      await fetch(`${trinoUrl}/v1/statement`, { method: 'POST', headers, body: query })
    ).json()
    while (page.nextUri && !page.data) page = await (await fetch(page.nextUri, { headers })).json()
    json(response, 200, executed(page))
  }

  function executed(page: {
    id: string
    columns?: unknown
    data?: unknown
    nextUri?: string
    error?: { message: string }
  }) {
    const { id, columns, data, error } = page
    const next =
      page.nextUri === undefined || nextUri === 'trino'
        ? page.nextUri
        : `${origin}${BASE}/query/next/${Buffer.from(page.nextUri).toString('base64url')}`
    return {
      id: 1,
      runRequestId: 'run-1',
      queryId: id,
      error: error ? (errors === 'object' ? error : `Query failed (#${id}): ${error.message}`) : null,
      status: error ? 'FAILED' : next ? 'RUNNING' : 'FINISHED',
      result: error ? null : { columns, data, ...(next ? { nextUri: next } : {}) },
    }
  }

  return fake
}

async function text(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function envelope(response: ServerResponse, status: number, content: Record<string, unknown>): void {
  json(response, status, { errorCode: null, message: null, detailedMessage: null, data: null, ...content })
}
