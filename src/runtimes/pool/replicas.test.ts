/** A pool over runtimes whose health the test decides. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { eventually } from '../../../test/support/eventually.ts'
import { AppError } from '../../errors.ts'
import { createKServeRuntime } from '../kserve.ts'
import type { Runtime } from '../runtime.ts'
import { RuntimeError, type Trouble } from '../trouble.ts'
import type { Pool } from './pool.ts'
import { createReplicaPool, type ReplicaPoolOptions } from './replicas.ts'

const never = new AbortController().signal
const A = 'http://10.0.0.1:8080'
const B = 'http://10.0.0.2:8080'

let down: Set<string>
let closed: string[]
let pool: Pool | undefined
const servers: Server[] = []

/** Fails its checks while it is down; draws nothing. */
const connect = ({ url }: { url: string }): Runtime => ({
  generate: async () => Promise.reject(new Error('not here')),
  check: async () => {
    if (down.has(url)) throw new AppError('runtime_unavailable', 'It is down.')
  },
  close: async () => void closed.push(url),
})

function open(options: Partial<ReplicaPoolOptions> = {}): Pool {
  pool = createReplicaPool({
    ...{ name: 'gpu', found: { urls: [`${A}/`, B] }, slots: 2, scalesFromZero: false, connect, ...options },
  })
  return pool
}

const ids = (of: Pool) => of.ready().map(({ id }) => id)
const trouble = (kind: Trouble, retryAfterSeconds?: number) => ({
  error: new RuntimeError('runtime_unavailable', 'No.', { trouble: kind, retryAfterSeconds }),
})

beforeEach(() => {
  down = new Set()
  closed = []
})
afterEach(async () => {
  await pool?.close()
  pool = undefined
  for (const server of servers.splice(0)) server.close()
})

test('the ready replicas are those that a probe found ready, under the same names everywhere', async () => {
  down.add(B)
  const pool = open()
  expect(pool.ready()).toEqual([])
  await pool.check({ signal: never })
  await eventually(() => expect(pool.ready()).toEqual([{ id: A, slots: 2 }]))
  expect(pool.report().map(({ replica, state }) => [replica, state])).toEqual([
    [A, 'ready'],
    [B, 'starting'],
  ])
})

test.each<[Trouble, boolean, boolean]>([
  ['unreachable', true, false],
  ['lost', true, false],
  ['busy', true, false],
  ['failed', false, true],
])('a run that ends as %s: again %s, still ready %s', async (kind, again, stays) => {
  const pool = open()
  await eventually(() => expect(ids(pool)).toEqual([A, B]))
  let changes = 0
  pool.onChange(() => {
    changes += 1
  })
  expect(pool.learn(A, trouble(kind, 60))).toBe(again)
  expect(ids(pool)).toEqual(stays ? [A, B] : [B])
  expect(changes).toBe(stays ? 0 : 1)
  expect(pool.report()[0]).toMatchObject({ ejections: kind === 'busy' || stays ? 0 : 1 })
})

test('a run that hangs ejects; one that the request is to blame for does not', async () => {
  const pool = open()
  await eventually(() => expect(ids(pool)).toEqual([A, B]))
  expect(pool.learn(A, { error: new AppError('invalid_request', 'Too large.') })).toBe(false)
  expect(ids(pool)).toEqual([A, B])
  expect(pool.learn(B, { error: new AppError('runtime_failed', 'It hangs.'), stuck: true })).toBe(true)
  expect(ids(pool)).toEqual([A])
})

test('without a ready replica the check fails, unless the target scales from zero', async () => {
  down = new Set([A, B])
  const fixed = open()
  await expect(fixed.check({ signal: never })).rejects.toMatchObject({
    code: 'runtime_unavailable',
    message: 'No replica of gpu is ready (2 found). Please try again in a few seconds.',
  })
  expect(fixed.trouble()).toMatchObject({ code: 'runtime_unavailable' })
  await fixed.close()
  const scaled = open({ scalesFromZero: true })
  await scaled.check({ signal: never })
  expect(scaled.trouble()).toBe(undefined)
})

test('while the first look goes on, new work is not refused', async () => {
  const pool = open({ found: { url: A.replace('10.0.0.1', 'pool'), lookup: () => new Promise(() => {}) } })
  expect(pool.trouble()).toBe(undefined)
  await expect(pool.check({ signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough')
})

test('a replica behind a name keeps the name in its requests', async () => {
  const hosts: (string | undefined)[] = []
  const server = createServer((request, response) => {
    hosts.push(request.headers.host)
    response.setHeader('content-type', 'application/json').end('{"ready": true}')
  })
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const lookup = async () => [{ address: '127.0.0.1', family: 4 }]
  const pool = open({
    found: { url: `http://pool.default.svc:${port}`, lookup },
    connect: (at) => createKServeRuntime({ ...at, model: 'model' }),
  })
  await pool.check({ signal: never })
  expect(ids(pool)).toEqual([`http://127.0.0.1:${port}`])
  expect(hosts).toEqual([`pool.default.svc:${port}`])
})

test('a run that was granted before the replica left still gets its client', async () => {
  const pool = open({ found: { urls: [A] } })
  const before = pool.runtimeOf(A)
  expect(pool.runtimeOf(A)).toBe(before)
  // Another server may know replicas that this one has not found yet.
  expect(pool.runtimeOf(B)).toBe(pool.runtimeOf(B))
  expect(pool.learn(B, trouble('unreachable'))).toBe(true)
  await pool.close()
  expect(closed.toSorted()).toEqual([A, B])
})
