/** A server with every toolset, in front of a real Trino and a fake XDP, as its users meet it. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { pythonTools } from '../../scripts/python-env.ts'
import { type FakeXdp, startFakeXdp } from '../fakes/xdp.ts'
import { HTTP_CLIENTS, stdioClients } from '../support/clients.ts'
import { eventually } from '../support/eventually.ts'
import { type Engine, type Running, startServer } from '../support/process.ts'
import { missingForTrino, startTrino, type Trino } from '../support/trino.ts'

const missing = missingForTrino()
const ERROR_META = 'io.github.diffusers-mcp/error'
const ENDLESS = 'SELECT count(*) FROM tpch.sf1000.lineitem a CROSS JOIN tpch.sf1000.lineitem b'
/** What schemathesis looks at in every answer. Which requests are refused, other tests say: headers may be any. */
const CHECKS = [
  ...['not_a_server_error', 'status_code_conformance', 'content_type_conformance'],
  ...['response_headers_conformance', 'response_schema_conformance', 'unsupported_method'],
]

if (missing)
  describe('a server with every toolset', () => {
    test.skip(`is not tested: ${missing}`, () => {})
  })
else {
  let trino: Trino
  let xdp: FakeXdp
  let env: Record<string, string>
  beforeAll(async () => {
    trino = await startTrino()
    xdp = await startFakeXdp({ trinoUrl: trino.url })
    env = {
      LOG_LEVEL: 'debug',
      RATE_LIMIT_PER_MINUTE: '0',
      // Room for as many pictures at once as somebody may ask for by way of trial.
      RUNTIMES: JSON.stringify([
        { name: 'drawn', kind: 'simulated', concurrency: 4, queue: 10_000, options: { msPerStep: 0 } },
      ]),
      TRINO_URL: trino.secureUrl,
      TRINO_USER: 'reader',
      TRINO_PASSWORD: trino.password,
      TRINO_CA_FILE: trino.caFile,
      TRINO_MAX_ROWS: '100',
      XDP_BASE_URL: xdp.baseUrl,
      XDP_ACCESS_KEY: xdp.accessKey,
      XDP_SECRET_KEY: xdp.secretKey,
    }
    // The first run on a machine fetches Trino.
  }, 900_000)
  afterAll(async () => {
    await xdp?.stop()
    await trino?.stop()
  })

  describe.each<Engine>(['node', 'deno'])('%s', (engine) => {
    let server: Running
    const post = async (path: string, body: unknown, init: RequestInit = {}) =>
      await fetch(server.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
        ...init,
      })
    const ready = async () => {
      const response = await fetch(`${server.url}/ready`)
      const { dependencies } = (await response.json()) as { dependencies: Record<string, { ok: boolean }> }
      const ok = Object.fromEntries(Object.entries(dependencies).map(([name, { ok }]) => [name, ok]))
      return { status: response.status, ok }
    }

    beforeAll(async () => {
      server = await startServer(engine, env)
    })
    afterAll(() => server?.stop())

    describe.each(Object.entries({ ...HTTP_CLIENTS, ...stdioClients(engine) }))('%s', (_, connect) => {
      test('explores and queries, directly and through XDP', async () => {
        const client = await connect({ url: server.url, env })
        const call = (name: string, args: Record<string, unknown>) =>
          client.callTool({ name, arguments: args }, { timeout: 60_000 })
        const names = (await client.listTools()).tools.map(({ name }) => name)
        expect(names.filter((name) => /^(trino|xdp)_/.test(name)).sort()).toEqual([
          ...['trino_describe_table', 'trino_execute_query', 'trino_list_catalogs', 'trino_list_schemas'],
          ...['trino_list_tables', 'xdp_list_datastores'],
        ])
        const stores = await call('xdp_list_datastores', { size: 2, page: 22 })
        expect(stores.structuredContent).toMatchObject({
          datastores: [{ name: 'store-45' }],
          pagination: { page: 22, size: 2, totalElements: 45, totalPages: 23 },
        })
        const query = 'SELECT orderkey, totalprice FROM tpch.tiny.orders'
        for (const way of [{}, { dataplane: 'plane-1' }]) {
          const { structuredContent, content, isError } = await call('trino_execute_query', { query, ...way })
          expect(isError).toBeFalsy()
          expect(structuredContent).toMatchObject({
            columns: [
              { name: 'orderkey', type: 'bigint' },
              { name: 'totalprice', type: 'double' },
            ],
            row_count: 100,
            truncated: true,
            limit: { kind: 'rows', value: 100 },
          })
          expect(content[0]?.text).toMatch(/^100 rows, cut at the limit of 100 rows/)
        }
        const refused = await call('trino_execute_query', { query: 'DROP TABLE memory.default.t' })
        expect(refused).toMatchObject({ isError: true, _meta: { [ERROR_META]: { code: 'forbidden' } } })
        await client.close()
      })
    })

    test('answers over REST', async () => {
      const query = { query: 'SELECT name FROM nation', catalog: 'tpch', schema: 'tiny', maxRows: 2 }
      const rows = await post('/api/trino/query', query)
      expect(rows.status).toBe(200)
      expect(await rows.json()).toMatchObject({ row_count: 2, truncated: true, limit: { value: 2 } })
      const executed = await post('/api/tools/execute', {
        tool: 'trino_list_schemas',
        params: { catalog: 'tpch' },
      })
      expect(await executed.json()).toMatchObject({ tool: 'trino_list_schemas', data: { truncated: false } })
      const stores = await fetch(`${server.url}/api/xdp/datastores?page=1&size=30&sortBy=name:desc`)
      expect(await stores.json()).toMatchObject({ datastores: { length: 15 }, pagination: { page: 1 } })
    })

    test.each<[string, unknown, number, string]>([
      ['a syntax error', { query: 'SELEC 1' }, 400, 'invalid_request'],
      ['an unknown table', { query: 'SELECT * FROM tpch.tiny.nope' }, 400, 'invalid_request'],
      ['a write', { query: 'CREATE SCHEMA memory.x' }, 403, 'forbidden'],
      ['no query', {}, 400, 'invalid_request'],
      ['too many rows', { query: 'SELECT 1', maxRows: 101 }, 400, 'invalid_request'],
    ])('refuses %s over REST', async (_, body, status, code) => {
      const response = await post('/api/trino/query', body)
      expect(response.status).toBe(status)
      expect(response.headers.get('content-type')).toBe('application/problem+json')
      expect(await response.json()).toMatchObject({ code })
    })

    test.each(['page=-1', 'size=0', 'size=101', 'page=one', 'sortBy=name', 'sort_by=name:asc'])(
      'refuses datastores by %s',
      async (query) => {
        expect((await fetch(`${server.url}/api/xdp/datastores?${query}`)).status).toBe(400)
      },
    )

    test('its OpenAPI document is valid, and true: random requests find no failure and no other answer', async () => {
      const tools = pythonTools(['schemathesis==4.32.5', 'openapi-spec-validator==0.9.0'])
      const folder = await mkdtemp(join(tmpdir(), 'openapi-'))
      const file = join(folder, 'openapi.json')
      const document = await (await fetch(`${server.url}/openapi.json`)).text()
      await writeFile(file, document)
      const operations = document.match(/"operationId":/g)?.length
      const run = (command: string, args: string[]) =>
        promisify(execFile)(join(tools, command), args, { cwd: folder, maxBuffer: 2 ** 26 }).catch(
          (error) => {
            throw new Error(`${command} found something:\n${error.stdout}\n${error.stderr}`)
          },
        )
      await run('openapi-spec-validator', ['--schema', '3.1', file])
      const { stdout } = await run('schemathesis', [
        // From the file: it leaves out the route that it has the document from.
        ...['run', file, '--url', server.url, '--phases', 'examples,coverage,fuzzing', '--no-color'],
        ...['--checks', CHECKS.join(','), '--max-examples', '10', '--seed', '1', '--continue-on-failure'],
        ...['--suppress-health-check', 'all', '--warnings', 'off', '--request-timeout', '120'],
        // A caller who grants less time than the work takes is told so with 504, as the document says.
        ...['--header', 'X-Request-Timeout: 600'],
      ])
      expect(stdout).toContain(`${operations} selected / ${operations} total`)
      expect(Number(/(\d+) generated/.exec(stdout)?.[1])).toBeGreaterThan(500)
      await rm(folder, { recursive: true })
    }, 400_000)

    test('a caller that closes the connection stops the query in Trino', async () => {
      const mark = `left_${engine}`
      const abort = new AbortController()
      const query = ENDLESS.replace('count(*)', `count(*) AS ${mark}`)
      const gone = post('/api/trino/query', { query }, { signal: abort.signal })
      gone.catch(() => {})
      await eventually(async () => {
        expect((await trino.queries(mark)).at(-1)).toMatchObject({ state: 'RUNNING', query })
      })
      abort.abort()
      await eventually(async () => {
        expect((await trino.queries(mark)).at(-1)).toMatchObject({ state: 'FAILED', error: 'USER_CANCELED' })
      })
    })

    test('Trino dies half-way: that call fails, the other toolsets stay in service', async () => {
      expect(await ready()).toEqual({
        status: 200,
        ok: { 'runtime:drawn': true, trino: true, xdp: true },
      })
      const query = ENDLESS.replace('count(*)', `count(*) AS dying_${engine}`)
      const dying = post('/api/trino/query', { query })
      await eventually(async () => expect(await trino.queries(`dying_${engine}`)).toHaveLength(2))
      await trino.kill()
      const response = await dying
      expect(response.status).toBe(503)
      expect(response.headers.get('retry-after')).toMatch(/^\d+$/)
      expect(await response.json()).toMatchObject({ code: 'runtime_unavailable' })
      await eventually(async () => {
        expect(await ready()).toEqual({
          status: 200,
          ok: { 'runtime:drawn': true, trino: false, xdp: true },
        })
      })
      expect((await post('/api/images', { prompt: 'a fox', width: 64, height: 64 })).status).toBe(200)
      expect((await fetch(`${server.url}/api/xdp/datastores`)).status).toBe(200)
      await trino.restart()
      await eventually(async () => expect((await ready()).ok.trino).toBe(true))
    }, 300_000)

    test('the log names what failed, and holds no secret, no nextUri and no inside of Trino', () => {
      const log = JSON.stringify(server.log)
      expect(log).toContain('"trino failed"')
      expect(log).not.toMatch(/v1\/statement|nextUri|failureInfo|io\.trino|Basic |Bearer /)
      expect(log).not.toContain(trino.password)
      expect(log).not.toContain(xdp.secretKey)
    })
  })
}
