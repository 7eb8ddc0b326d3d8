/** A folder of its own in one S3 store for each test, and a clock that the test sets. */
import { afterEach, beforeAll, beforeEach } from 'vitest'
import type { ImageStore } from '../../../src/images/image.ts'
import { createS3Images } from '../../../src/images/s3/s3.ts'
import { makeImage, makePng, NOON } from '../../support/pictures.ts'
import type { Seaweedfs } from '../../support/seaweedfs.ts'

export type Options = Parameters<typeof createS3Images>[0]

/** How a store reaches this server. */
export const settingsOf = (seaweedfs: Seaweedfs): Omit<Options, 'bucket'> => ({
  endpoint: seaweedfs.endpoint,
  accessKey: () => seaweedfs.accessKey,
  secretKey: () => seaweedfs.secretKey,
})

/** What the topics work with. */
export type S3Suite = ReturnType<typeof createS3Suite>

export const owner = makeImage(Buffer.alloc(0)).record.owner
export const at = (ms: number) => new Date(ms).toISOString()

/** A new folder before each test; its stores are closed after it. Call it within a `describe`. */
export function createS3Suite(started: () => Seaweedfs) {
  let folders = 0
  let png: Buffer
  let bucket: string
  let prefix: string
  let now: number
  let opened: ImageStore[]

  beforeAll(async () => {
    png = await makePng({ width: 64, height: 64 })
    bucket = await started().createBucket()
  })
  beforeEach(() => {
    now = NOON
    prefix = `own/${++folders}`
    opened = []
  })
  afterEach(async () => {
    for (const store of opened) await store.close()
  })

  return {
    get seaweedfs() {
      return started()
    },
    get png() {
      return png
    },
    get bucket() {
      return bucket
    },
    get prefix() {
      return prefix
    },
    get now() {
      return now
    },
    set now(ms: number) {
      now = ms
    },
    openStore: async (options: Partial<Options> = {}) => {
      const store = await createS3Images({
        ...settingsOf(started()),
        bucket,
        prefix,
        now: () => now,
        ...options,
      })
      opened.push(store)
      return store
    },
    idsIn: async (store: ImageStore) => (await store.list(owner, { limit: 100 })).records.map(({ id }) => id),
    /** Keys of the objects in the test's folder. */
    keys: async () =>
      (await started().keysIn(bucket))
        .filter((key) => key.startsWith(`${prefix}/`))
        .map((key) => key.slice(prefix.length + 1)),
  }
}
