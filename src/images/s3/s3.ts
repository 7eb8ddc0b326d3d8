/**
 * Pictures in a bucket of an S3-compatible store: any number of server processes on one bucket are one store. A picture
 * is one object with two names, which are empty objects: keys.ts says how they are called, objects.ts what they hold.
 *
 * The two names are written before the picture and removed after it. A process that dies in between leaves names
 * without a picture. Readers pass over them, because a name counts only for the record that it is made from, and the
 * sweep removes them when they expire. So there is never a picture that no sweep would find.
 *
 * Instead of the sweep, or besides it, the bucket may have a lifecycle rule on the whole prefix that expires objects
 * after a day more than pictures live: it may remove any of the three objects in any order.
 */
import { hasExpired } from '../catalogue.ts'
import { checkImage, isImageId } from '../check.ts'
import type { ImageStore } from '../image.ts'
import { explainOutage } from '../outage.ts'
import { checkBucket, checkWritable } from './bucket-check.ts'
import { createS3Client, isOutage } from './client.ts'
import { createKeys } from './keys.ts'
import { listPictures } from './list.ts'
import { createObjects, inParallel, objectBytes } from './objects.ts'
import { putPicture } from './put.ts'

/**
 * A store in `bucket` at `endpoint`, both as the configuration has checked them. At the start it lists, writes and
 * deletes once. While the S3 store is down, `put` keeps the picture in memory and retries for `retryForMs` (60 s), and
 * everything else retries for 3 s; one request takes at most `timeoutMs` (15 s) on top. After that they throw AppError
 * `overloaded`, and after any refusal `internal`. The keys are read for every request, so they may be rotated. `close`
 * ends what is under way as an outage would.
 *
 * `maxBytes` bounds what the pictures and their records take; the oldest go first. It costs a request per 1000 pictures
 * at every `put`, and processes that put at the same moment may exceed it until the next one. Leave it out for a big
 * bucket, which then is bounded by expiry alone. `prefix` puts everything below one folder; it has no slash at its ends.
 * `now` gives milliseconds since 1970.
 * @throws Error that names the setting, when the bucket cannot be used as it has to be.
 */
export async function createS3Images(options: {
  endpoint: string
  bucket: string
  prefix?: string
  region?: string
  accessKey: () => string
  secretKey: () => string
  maxBytes?: number
  now?: () => number
  timeoutMs?: number
  retryForMs?: number
  fetch?: typeof fetch
}): Promise<ImageStore> {
  const { endpoint, bucket, region = 'us-east-1', accessKey, secretKey } = options
  const { maxBytes = Number.POSITIVE_INFINITY, now = Date.now } = options
  const { timeoutMs = 15_000, retryForMs = 60_000, fetch = globalThis.fetch } = options
  const prefix = options.prefix === undefined ? '' : `${options.prefix}/`
  const client = createS3Client({
    bucketUrl: `${endpoint}/${bucket}`,
    region,
    accessKey,
    secretKey,
    timeoutMs,
    fetch,
  })
  await checkBucket({ client, prefix, endpoint, bucket, region })
  const keys = createKeys(prefix)
  const objects = createObjects({ client, keys })
  let lastBounded: Promise<unknown> = Promise.resolve()

  return {
    async put(image) {
      checkImage(image)
      const until = performance.now() + retryForMs
      const put = () => putPicture(image, { keys, objects, maxBytes, now, until })
      // One at a time where there is a bound, so that it holds.
      const stored = Number.isFinite(maxBytes) ? lastBounded.then(put) : put()
      lastBounded = stored.catch(() => {})
      return explain('The picture could not be stored', () => stored)
    },

    get: (id) =>
      explain('The picture could not be read', async () => {
        const image = isImageId(id) ? await objects.read(id) : undefined
        return image && !hasExpired(image.record, now()) ? image : undefined
      }),

    stream: (record) => explain('The picture could not be read', () => objects.stream(record)),

    head: (id) =>
      explain('The picture could not be looked up', async () => {
        const found = isImageId(id) ? await objects.find(id) : undefined
        return found?.record && !hasExpired(found.record, now()) ? found.record : undefined
      }),

    delete: (id) =>
      explain('The picture could not be deleted', async () => {
        const found = isImageId(id) ? await objects.find(id) : undefined
        if (!found?.record || hasExpired(found.record, now())) return false
        const removed = await objects.removePicture(id, found)
        if (removed)
          await objects.removeNames(keys.namesOf(keys.entryOf(found.record, objectBytes(found.record))))
        return removed
      }),

    list: (owner, { limit, after }) =>
      explain('The pictures could not be listed', () =>
        listPictures({ client, keys, objects, now, owner, limit, after }),
      ),

    sweep: () =>
      explain('Expired pictures could not be removed', async () => {
        let removed = 0
        for await (const page of objects.entries()) {
          const expired = page.filter(({ expiresAt }) => expiresAt <= now())
          removed += (await inParallel(expired, objects.remove)).filter(Boolean).length
          if (expired.length < page.length) break
        }
        return removed
      }),

    // Each check writes, which costs money in some stores.
    checkEveryMs: 60_000,
    check: () => checkWritable({ client, prefix }),

    async close() {
      client.close()
    },
  }
}

const explain = <T>(what: string, act: () => Promise<T>) => explainOutage(what, act, isOutage)
