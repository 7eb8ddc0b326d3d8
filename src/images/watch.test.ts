import { pino } from 'pino'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { makeImage, makePng } from '../../test/support/pictures.ts'
import { AppError } from '../errors.ts'
import type { ImageStore, StoredImage } from './image.ts'
import { createMemoryImages } from './memory.ts'
import { S3Failure } from './s3/client.ts'
import { watchStore } from './watch.ts'

const log = pino({ level: 'silent' })
let image: StoredImage
let failure: unknown
let checks: number
let store: ImageStore

beforeEach(async () => {
  image = makeImage(await makePng({ width: 8, height: 8 }))
  vi.useFakeTimers()
  failure = undefined
  checks = 0
  const act = async <T>(value: T) => {
    if (failure !== undefined) throw failure
    return value
  }
  store = watchStore(
    {
      ...createMemoryImages({ maxBytes: 2 ** 20 }),
      put: ({ record }) => act(record),
      check() {
        checks += 1
        return act(undefined)
      },
    },
    { log },
  )
})
afterEach(async () => {
  await store.close()
  vi.useRealTimers()
})

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)
const errno = (code: string) => Object.assign(new Error(code), { code })
const s3 = (status: number, code: string) => new S3Failure({ request: 'PUT x', status, code })

test.each<[string, unknown, RegExp]>([
  ['a full disk', errno('ENOSPC'), /is full/],
  ['a full quota', new Error('x', { cause: errno('EDQUOT') }), /is full/],
  ['a read-only disk', errno('EROFS'), /cannot be written to/],
  ['a folder of another user', errno('EACCES'), /cannot be written to/],
  ['S3 without room', s3(507, 'InsufficientStorage'), /is full/],
  ['S3 that forbids it', s3(403, 'AccessDenied'), /cannot be written to/],
  ['S3 without the bucket', s3(404, 'NoSuchBucket'), /cannot be written to/],
  ['S3 that is down', new S3Failure({ request: 'PUT x', code: 'ECONNREFUSED' }), /cannot be reached/],
  ['a full Valkey', new AppError('overloaded', 'x', { cause: new Error('OOM command') }), /is full/],
  ['Valkey that is away', new AppError('overloaded', 'x'), /cannot be reached/],
])('%s is found without a picture, and its end too', async (_, thrown, message) => {
  await pass(2000)
  expect(store.trouble?.()).toBeUndefined()
  failure = thrown
  await pass(8000)
  expect(store.trouble?.()).toMatchObject({ code: 'overloaded', retryAfterSeconds: 5 })
  expect(store.trouble?.()?.message).toMatch(message)
  await expect(store.check?.()).rejects.toBe(thrown)
  failure = undefined
  await pass(4000)
  expect(store.trouble?.()).toBeUndefined()
  await store.check?.()
})

test('a picture that cannot be stored says so at once, and one that can ends it', async () => {
  await pass(2000)
  failure = errno('ENOSPC')
  await expect(store.put(image)).rejects.toThrow()
  expect(store.trouble?.()?.message).toMatch(/is full/)
  failure = undefined
  await store.put(image)
  expect(store.trouble?.()).toBeUndefined()
})

test('a picture that no store would take is no trouble of the store', async () => {
  for (const code of ['too_large', 'internal'] as const) {
    failure = new AppError(code, 'x', { cause: new Error('wrong record') })
    await expect(store.put(image)).rejects.toThrow()
    expect(store.trouble?.()).toBeUndefined()
  }
})

test('pictures that are stored need no checks beside them', async () => {
  await pass(2000)
  const before = checks
  for (let second = 0; second < 10; second += 1) {
    await store.put(image)
    await pass(1000)
  }
  expect(checks).toBe(before)
})
