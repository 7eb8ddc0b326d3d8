/** The XDP client against a fake of XDP; queries that reach a real Trino through it are in trino.test.ts. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createXdp, type Xdp } from '../../src/datasources/xdp.ts'
import { type FakeXdp, startFakeXdp } from '../fakes/xdp.ts'
import { eventually } from '../support/eventually.ts'

const SORTED = 'updatedAt:asc'
/** Ends a hang: an answer of the fake takes milliseconds. */
const TIMEOUT_MS = 60_000
const signal = () => new AbortController().signal
const limits = { maxRows: 10, maxBytes: 10_000 }

let fake: FakeXdp
let xdp: Xdp
const make = (options: Partial<Parameters<typeof createXdp>[0]> = {}) =>
  createXdp({
    baseUrl: fake.baseUrl,
    accessKey: () => fake.accessKey,
    secretKey: () => fake.secretKey,
    timeoutMs: TIMEOUT_MS,
    ...options,
  })
const list = (by: Xdp = xdp, page = { page: 0, size: 20, sortBy: SORTED }) =>
  by.listDatastores(page, { signal: signal() })
const query = (by: Xdp = xdp, more = {}) =>
  by
    .trino('plane')
    .query('SELECT 1', { limits, timeoutMs: TIMEOUT_MS, signal: signal(), requestId: 'r', ...more })

beforeAll(async () => {
  fake = await startFakeXdp()
  xdp = make()
})
beforeEach(() => {
  fake.fault = undefined
  fake.seen.length = 0
})
afterAll(async () => {
  await xdp?.close()
  await fake?.stop()
})

/** Answers every request with this status and body. */
const answering = (status: number, body: unknown, headers: Record<string, string> = {}) => {
  fake.fault = (_, response) => {
    response
      .writeHead(status, { 'content-type': 'application/json', ...headers })
      .end(typeof body === 'string' ? body : JSON.stringify(body))
    return true
  }
}
const envelope = (more: object) => ({
  errorCode: null,
  success: false,
  message: 'Words for the caller',
  detailedMessage: 'at com.acceldata.Secret(Secret.java:1)',
  data: null,
  ...more,
})

describe('datastores', () => {
  test('come in pages counted from 0, in the order asked for', async () => {
    expect(await list(xdp, { page: 2, size: 20, sortBy: 'name:desc' })).toMatchObject({
      datastores: { length: 5 },
      pagination: { page: 2, size: 20, totalElements: 45, totalPages: 3 },
    })
    expect(fake.seen).toEqual(['GET /datastore?page=2&size=20&sort_by=name%3Adesc'])
    expect((await list()).datastores[0]).toMatchObject({ id: 1, name: 'store-1' })
  })

  test('are asked for again while XDP is away, because that changes nothing', async () => {
    let failures = 3
    fake.fault = (_, response) => {
      if (failures === 0) return false
      failures -= 1
      if (failures === 1) response.destroy()
      else response.writeHead(503).end()
      return true
    }
    expect((await list()).datastores).toHaveLength(20)
    expect(fake.seen).toHaveLength(4)
  })
})

describe('failures', () => {
  test.each<[string, number, object | string, string, RegExp]>([
    ['a refusal', 400, envelope({}), 'invalid_request', /XDP refused the request: Words for the caller/],
    ['nothing there', 404, envelope({}), 'not_found', /Words for the caller/],
    ['wrong keys', 401, envelope({}), 'runtime_failed', /XDP_ACCESS_KEY and XDP_SECRET_KEY/],
    ['forbidden keys', 403, 'no', 'runtime_failed', /XDP_ACCESS_KEY/],
    ['too many requests', 429, envelope({}), 'overloaded', /later/],
    ['an error of its own', 500, envelope({}), 'runtime_failed', /log has the cause/],
    ['a gateway without XDP', 502, '<html>', 'runtime_unavailable', /cannot be reached/],
    ['a failure under status 200', 200, envelope({ errorCode: 'X1' }), 'runtime_failed', /log has/],
    ['a refusal under status 200', 200, envelope({ errorCode: 404 }), 'not_found', /Words/],
    ['a redirect', 302, '', 'runtime_failed', /./],
    ['no JSON', 200, 'fine', 'runtime_failed', /./],
    ['another shape', 200, { success: true, data: { stores: [] } }, 'runtime_failed', /./],
  ])('%s', async (_, status, body, code, message) => {
    answering(status, body, status === 429 ? { 'retry-after': '7' } : { location: 'http://127.0.0.1:9/' })
    const error = await list().catch((error) => error)
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) })
    expect(error.message).not.toMatch(/acceldata|Secret|java/)
    if (status === 429) expect(error.retryAfterSeconds).toBe(7)
  })

  test('wrong keys are refused, and never shown', async () => {
    const error = await list(make({ secretKey: () => 'the-wrong-one' })).catch((error) => error)
    expect(error).toMatchObject({ code: 'runtime_failed' })
    expect(`${error.message} ${error.cause.stack}`).not.toContain('the-wrong-one')
  })

  test('silence ends with the time limit', async () => {
    fake.fault = () => true
    await expect(list(make({ timeoutMs: 200 }))).rejects.toMatchObject({
      code: 'deadline_exceeded',
      message: expect.stringContaining('XDP_TIMEOUT_MS'),
    })
  })

  test('nobody at the address', async () => {
    const away = make({ baseUrl: 'http://127.0.0.1:9/xdp-cp-service/api' })
    await expect(list(away)).rejects.toMatchObject({ code: 'runtime_unavailable' })
    await expect(away.check({ signal: signal() })).rejects.toMatchObject({ code: 'runtime_unavailable' })
  })

  test('a caller that leaves ends the request', async () => {
    fake.fault = () => true
    const abort = new AbortController()
    const listing = xdp.listDatastores({ page: 0, size: 1, sortBy: SORTED }, { signal: abort.signal })
    listing.catch(() => {})
    await eventually(() => expect(fake.seen).toHaveLength(1))
    abort.abort(new Error('left'))
    await expect(listing).rejects.toThrow('left')
  })
})

describe('queries', () => {
  const executed = (more: object) => ({
    id: 1,
    runRequestId: 'r',
    queryId: 'q',
    error: null,
    status: 'FINISHED',
    ...more,
  })
  const columns = [{ name: 'a', type: 'bigint' }]

  test('go out once: what failed may have run', async () => {
    answering(503, '')
    await expect(query()).rejects.toMatchObject({ code: 'runtime_unavailable' })
    expect(fake.seen).toEqual(['POST /query/execute'])
  })

  test('keep exact integers', async () => {
    answering(
      200,
      `{"queryId":"q","error":null,"status":"FINISHED","result":{"columns":${JSON.stringify(columns)},"data":[[9007199254740993]]}}`,
    )
    expect(await query()).toMatchObject({ queryId: 'q', rows: [['9007199254740993']], cut: undefined })
  })

  test.each<[string, unknown, string]>([
    [
      'an error as Trino has it',
      { message: 'line 1:1: no', errorName: 'SYNTAX_ERROR', errorType: 'USER_ERROR' },
      'invalid_request',
    ],
    ["a sentence with Trino's place", 'Query failed (#1): line 1:1: no', 'invalid_request'],
    ['a sentence without one', 'com.acceldata.Secret failed', 'runtime_failed'],
    ['anything else', { code: 7 }, 'runtime_failed'],
  ])('%s', async (_, error, code) => {
    answering(200, executed({ error, status: 'FAILED', result: null }))
    const thrown = await query().catch((error) => error)
    expect(thrown).toMatchObject({ code })
    expect(thrown.message).not.toContain('Secret')
  })

  test('a failure without an error is one', async () => {
    answering(200, executed({ status: 'FAILED', result: null }))
    await expect(query()).rejects.toMatchObject({ code: 'runtime_failed' })
  })

  test('more at a foreign address is stated, and the keys do not go there', async () => {
    const other = await startFakeXdp()
    answering(200, executed({ result: { columns, data: [[1]], nextUri: `${other.baseUrl}/next` } }))
    expect(await query()).toMatchObject({ rows: [[1]], cut: 'pages' })
    expect(other.seen).toEqual([])
    await other.stop()
  })

  test('more at an address of its own is followed up to the limit, and stopped there', async () => {
    let page = 0
    fake.fault = (request, response) => {
      if (request.method === 'DELETE') response.writeHead(204).end()
      else {
        page += 1
        const result = { columns, data: [[page], [page]], nextUri: `/xdp-cp-service/api/next/${page}` }
        response.writeHead(200).end(JSON.stringify(executed({ result })))
      }
      return true
    }
    const answer = await query(xdp, { limits: { maxRows: 5, maxBytes: 1000 } })
    expect(answer).toMatchObject({ rows: [[1], [1], [2], [2], [3]], cut: 'rows' })
    await eventually(() =>
      expect(fake.seen).toEqual(['POST /query/execute', 'GET /next/1', 'GET /next/2', 'DELETE /next/3']),
    )
  })

  test('a page may be of the form that Trino gives it', async () => {
    fake.fault = (request, response) => {
      const body =
        request.method === 'POST'
          ? executed({ result: { columns, data: [[1]], nextUri: `${fake.baseUrl}/next` } })
          : { id: 'q', columns, data: [[2]], stats: {} }
      response.writeHead(200).end(JSON.stringify(body))
      return true
    }
    expect(await query()).toMatchObject({ rows: [[1], [2]], cut: undefined })
  })

  test('take no default catalog, which XDP cannot set', async () => {
    await expect(query(xdp, { catalog: 'tpch' })).rejects.toMatchObject({ code: 'invalid_request' })
    expect(fake.seen).toEqual([])
  })

  test('end with their time', async () => {
    fake.fault = () => true
    await expect(query(xdp, { timeoutMs: 200 })).rejects.toMatchObject({
      code: 'deadline_exceeded',
      message: expect.stringContaining('TRINO_QUERY_TIMEOUT_MS'),
    })
  })
})
