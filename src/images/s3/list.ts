/** One owner's pictures in a bucket, newest first. */
import { checkLimit, cursorOf, parseCursor } from '../catalogue.ts'
import type { ImagePage, ImageRecord } from '../image.ts'
import type { S3Client } from './client.ts'
import { afterPlace, type Keys, parseOwnerKey } from './keys.ts'
import { AT_ONCE, inParallel, KEYS_PER_PAGE, type Objects } from './objects.ts'

/**
 * A page of at most `limit` records.
 * @throws AppError `invalid_request` for a limit outside 1-100, or an `after` that was never a `next`.
 */
export async function listPictures(options: {
  client: S3Client
  keys: Keys
  objects: Objects
  now: () => number
  owner: string
  limit: number
  after: string | undefined
}): Promise<ImagePage> {
  const { client, keys, objects, now, owner, limit, after } = options
  checkLimit(limit)
  const folder = keys.ownerFolder(owner)
  const records: ImageRecord[] = []
  let start = after === undefined ? undefined : afterPlace(parseCursor(after), folder)
  for (let pageSize = limit + 1; ; pageSize = KEYS_PER_PAGE) {
    const page = await client.list({ prefix: folder, limit: pageSize, after: start })
    const valid = page.keys.flatMap((key) => {
      const { id, expiresAt } = parseOwnerKey(key, folder) ?? {}
      return id !== undefined && expiresAt! > now() ? { key, id } : []
    })
    for (let index = 0; index < valid.length && records.length <= limit; index += AT_ONCE) {
      const found = await inParallel(valid.slice(index, index + AT_ONCE), async ({ key, id }) => {
        const record = (await objects.find(id))?.record
        return record && keys.ownerKey(keys.entryOf(record, 0)) === key ? record : undefined
      })
      records.push(...found.filter((record) => record !== undefined))
    }
    if (records.length > limit) {
      const shown = records.slice(0, limit)
      const { id, created_at } = shown.at(-1)!
      return { records: shown, next: cursorOf({ createdAt: Date.parse(created_at), id }) }
    }
    start = page.keys.at(-1)
    if (!page.more || start === undefined) return { records }
  }
}
