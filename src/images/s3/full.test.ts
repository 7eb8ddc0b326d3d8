import { afterEach, beforeEach, expect, test } from 'vitest'
import { makeImage, makePng } from '../../../test/support/pictures.ts'
import type { ImageStore } from '../image.ts'
import { troubleOf } from '../outage.ts'
import { createS3Images } from './s3.ts'

/** What the bucket answers to a PUT; absent: it takes it. As S3 does: an XML document with a code. */
let refusal: { status: number; code: string } | undefined
let store: ImageStore

const answer = (status: number, code = '') =>
  new Response(status === 204 ? null : `<Error><Code>${code}</Code></Error>`, { status })

const bucket = async (url: unknown, { method, headers }: RequestInit = {}) => {
  if (method === 'DELETE') return answer(204)
  if (method === 'PUT' && refusal) return answer(refusal.status, refusal.code)
  const again = new Headers(headers).has('if-none-match') && String(url).includes('/probe/')
  if (method === 'PUT') return again ? answer(412, 'PreconditionFailed') : answer(200)
  return String(url).includes('list-type') ? answer(200) : answer(404, 'NoSuchKey')
}

beforeEach(async () => {
  refusal = undefined
  store = await createS3Images({
    endpoint: 'http://s3.example',
    bucket: 'pictures',
    accessKey: () => 'access',
    secretKey: () => 'secret',
    retryForMs: 300,
    fetch: bucket as typeof fetch,
  })
})
afterEach(() => store.close())

test.each([
  { status: 507, code: 'InsufficientStorage', reason: /store is full/ },
  { status: 403, code: 'QuotaExceeded', reason: /store is full/ },
  { status: 503, code: 'ServiceUnavailable', reason: /cannot be reached/ },
  { status: 403, code: 'AccessDenied', reason: /cannot be written to/ },
  { status: 404, code: 'NoSuchBucket', reason: /cannot be written to/ },
])('a bucket that answers $status $code: its check says so', async ({ reason, ...answered }) => {
  await store.check?.()
  refusal = answered
  const failure = await (store.check as () => Promise<void>)().catch((error) => error)
  expect(troubleOf(failure)).toMatchObject({ code: 'overloaded', message: expect.stringMatching(reason) })
})

test('a full bucket: the picture is tried again, and its job fails with the reason', async () => {
  const image = makeImage(await makePng({ width: 8, height: 8 }), {
    created_at: new Date().toISOString(),
    expires_at: new Date(Date.now() + 60_000).toISOString(),
  })
  refusal = { status: 507, code: 'InsufficientStorage' }
  const stored = store.put(image)
  setTimeout(() => {
    refusal = undefined
  }, 100)
  expect(await stored).toEqual(image.record)
  refusal = { status: 507, code: 'InsufficientStorage' }
  await expect(store.put({ ...image, record: { ...image.record, id: 'two' } })).rejects.toMatchObject({
    code: 'overloaded',
    message: 'The picture could not be stored. The picture store is full; try again later.',
  })
})
