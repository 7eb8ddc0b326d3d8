/** The Trino client in trouble that a healthy Trino does not make. */
import type { ServerResponse } from 'node:http'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createTrino, type Trino } from '../../src/datasources/trino.ts'
import { page, type ScriptedTrino, startScriptedTrino } from '../fakes/scripted-trino.ts'
import { eventually } from '../support/eventually.ts'

let fake: ScriptedTrino
let trino: Trino
const query = (more: object = {}) =>
  trino.query('SELECT 1', {
    limits: { maxRows: 10, maxBytes: 1000 },
    timeoutMs: 20_000,
    signal: new AbortController().signal,
    requestId: 'request-1',
    ...more,
  })
/** Fails some times with each of the methods, then answers. */
const failing = (fail: Record<string, (response: ServerResponse) => void>, times: number) => {
  const left = new Map(Object.keys(fail).map((method) => [method, times]))
  fake.answer = (request, response) => {
    const method = request.method ?? ''
    const remaining = left.get(method) ?? 0
    left.set(method, remaining - 1)
    if (remaining > 0) return fail[method]!(response)
    page(response, method === 'POST' ? { nextUri: `${fake.url}/next` } : { data: [[1]] })
  }
}
const status = (code: number) => (response: ServerResponse) => void response.writeHead(code).end()

beforeEach(async () => {
  fake = await startScriptedTrino()
  trino = createTrino({ url: fake.url, user: 'reader' })
})
afterEach(async () => {
  await trino.close()
  await fake.stop()
})

test.each([502, 503, 504])('status %i is a moment of weakness of what stands between', async (code) => {
  failing({ POST: status(code), GET: status(code) }, 2)
  expect(await query()).toMatchObject({ rows: [[1]] })
  expect(fake.seen).toHaveLength(6)
})

test('a page whose connection breaks is asked for again: it is kept until the next one is', async () => {
  failing({ GET: (response) => void response.destroy() }, 2)
  expect(await query()).toMatchObject({ rows: [[1]] })
})

test('a statement whose connection breaks is not sent again', async () => {
  failing({ POST: (response) => void response.destroy() }, 1)
  await expect(query()).rejects.toMatchObject({ code: 'runtime_unavailable' })
  expect(fake.seen).toEqual(['POST /v1/statement'])
})

test.each<[number, string]>([
  [401, 'runtime_failed'],
  [403, 'runtime_failed'],
  [404, 'runtime_unavailable'],
  [429, 'overloaded'],
  [500, 'runtime_failed'],
  [302, 'runtime_failed'],
])('status %i is final: %s', async (code, expected) => {
  fake.answer = (_, response) => response.writeHead(code, { location: 'http://127.0.0.1:9/' }).end('<html>')
  await expect(query()).rejects.toMatchObject({ code: expected })
  expect(fake.seen).toHaveLength(1)
})

test.each(['not json', '{}[', '[]', '{"data":7}', ''])('%j is no page', async (body) => {
  fake.answer = (_, response) => response.writeHead(200).end(body)
  await expect(query()).rejects.toMatchObject({ code: 'runtime_failed' })
})

test('a nextUri of another origin is not followed, and the credentials stay here', async () => {
  const other = await startScriptedTrino()
  fake.answer = (_, response) => page(response, { nextUri: `${other.url}/steal` })
  const error = await query().catch((error) => error)
  expect(error).toMatchObject({
    code: 'runtime_failed',
    cause: { message: expect.stringContaining('process-forwarded') },
  })
  expect(`${error.message} ${error.cause.message}`).not.toContain('/steal')
  expect(other.seen).toEqual([])
  await other.stop()
})

test('a caller that leaves before Trino named the query stops it all the same', async () => {
  const abort = new AbortController()
  let release = () => {}
  fake.answer = (request, response) => {
    if (request.method !== 'POST') return void response.writeHead(204).end()
    release = () => page(response, { nextUri: `${fake.url}/next` })
  }
  const gone = query({ signal: abort.signal })
  gone.catch(() => {})
  await eventually(() => expect(fake.seen).toHaveLength(1))
  abort.abort(new Error('left'))
  await expect(gone).rejects.toThrow('left')
  release()
  await eventually(() => expect(fake.seen).toEqual(['POST /v1/statement', 'DELETE /next']))
})

test('a query that has ended is not deleted', async () => {
  failing({}, 0)
  await query()
  await trino.close()
  expect(fake.seen).toEqual(['POST /v1/statement', 'GET /next'])
})

test('the statement carries its user, source, request and time limit, and no other page does', async () => {
  failing({}, 0)
  await query()
  expect(fake.headers[0]).toMatchObject({
    'x-trino-user': 'reader',
    'x-trino-source': 'diffusers-mcp',
    'x-trino-trace-token': 'request-1',
    'x-trino-session': 'query_max_run_time=20000ms',
    'x-trino-client-capabilities': 'PARAMETRIC_DATETIME',
  })
  expect(fake.headers[1]).not.toHaveProperty('x-trino-session')
})

test.each<[string, string, string]>([
  ['EXCEEDED_TIME_LIMIT', 'INSUFFICIENT_RESOURCES', 'deadline_exceeded'],
  ['EXCEEDED_GLOBAL_MEMORY_LIMIT', 'INSUFFICIENT_RESOURCES', 'invalid_request'],
  ['QUERY_QUEUE_FULL', 'INSUFFICIENT_RESOURCES', 'overloaded'],
  ['CLUSTER_OUT_OF_MEMORY', 'INSUFFICIENT_RESOURCES', 'overloaded'],
  ['SERVER_STARTING_UP', 'INTERNAL_ERROR', 'runtime_unavailable'],
  ['GENERIC_INTERNAL_ERROR', 'INTERNAL_ERROR', 'runtime_failed'],
  ['HIVE_METASTORE_ERROR', 'EXTERNAL', 'runtime_failed'],
  ['PERMISSION_DENIED', 'USER_ERROR', 'forbidden'],
  ['TABLE_NOT_FOUND', 'USER_ERROR', 'invalid_request'],
  ['ADMINISTRATIVELY_KILLED', 'USER_ERROR', 'cancelled'],
])('%s of the type %s: %s', async (errorName, errorType, code) => {
  const error = {
    message: 'line 1:1: of-inside',
    errorCode: 1,
    errorName,
    errorType,
    failureInfo: { stack: ['io.trino.Secret(Secret.java:1)'] },
  }
  fake.answer = (_, response) => page(response, { error })
  const thrown = await query().catch((error) => error)
  expect(thrown).toMatchObject({ code })
  expect(`${thrown.message} ${JSON.stringify(thrown)} ${thrown.cause}`).not.toContain('Secret')
  // Words of others may name hosts and files.
  if (code.startsWith('runtime')) expect(thrown.message).not.toContain('of-inside')
})

test('one enormous row ends the answer, not the process', async () => {
  fake.answer = (request, response) => {
    if (request.method === 'DELETE') return void response.writeHead(204).end()
    if (request.method === 'POST') return page(response, { data: [[1]], nextUri: `${fake.url}/next` })
    const piece = Buffer.alloc(2 ** 20, 'x')
    response.writeHead(200)
    const pour = () => {
      while (!response.destroyed && response.write(piece));
    }
    response.on('drain', pour)
    pour()
  }
  expect(await query()).toMatchObject({ rows: [[1]], cut: 'bytes' })
  await eventually(() => expect(fake.seen.at(-1)).toBe('DELETE /next'))
})

test('a coordinator that starts is not ready', async () => {
  fake.answer = (_, response) => response.writeHead(200).end('{"starting":true}')
  const signal = new AbortController().signal
  await expect(trino.check({ signal })).rejects.toMatchObject({ code: 'runtime_unavailable' })
  fake.answer = (_, response) => response.writeHead(200).end('{"starting":false}')
  await trino.check({ signal })
})
