/**
 * The objects of a store in its bucket.
 *
 * A picture is the PNG, a line feed, and the record as one line of JSON, all in one object, because the store creates an
 * object at once or not at all: what is visible is whole, and `If-None-Match: *` lets the first writer win. The record is
 * at the end, so that the object still opens as a picture and `find` reads the end only. It is not in the object's
 * metadata, which holds 2 KB where a record with two long prompts takes 24.
 */
import { parseRecord } from '../check.ts'
import type { ImageFacts, ImageRecord, StoredImage } from '../image.ts'
import type { S3Client } from './client.ts'
import type { Entry, Keys } from './keys.ts'

/** Enough for nearly all records; a longer one takes a second request. */
const TAIL_BYTES = 4096
/** Longer than any record: two prompts of 2000 characters, each of them six bytes in JSON, and the rest. */
const LONG_TAIL_BYTES = 65_536
/** What one request lists at most, by the rules of S3. */
export const KEYS_PER_PAGE = 1000
/** Requests at once for a listing or a sweep. */
export const AT_ONCE = 16
const LINE_FEED = 10

/** Not there, or not as it was when it was read. */
const GONE_OR_CHANGED = [404, 412]
/** The id was taken, or another process writes it at this moment (409), or what was to be replaced is gone (404). */
const NOT_FIRST = [404, 409, 412]

/** An object as it was read. `record` is undefined when its bytes are no picture of this store. */
export interface Found {
  readonly etag: string
  readonly record: ImageRecord | undefined
}

export type Objects = ReturnType<typeof createObjects>

/** What may be done with the objects of a store. Every function throws S3Failure as the client does. */
export function createObjects({ client, keys }: { client: S3Client; keys: Keys }) {
  /** The object of an id, expired or not, without its picture. */
  async function find(id: string, until?: number): Promise<Found | undefined> {
    for (const tail of [TAIL_BYTES, LONG_TAIL_BYTES]) {
      const { status, headers, body } = await client.send({
        method: 'GET',
        key: keys.picture(id),
        headers: { range: `bytes=-${tail}` },
        accept: [404],
        until,
      })
      if (status === 404) return undefined
      const found = { etag: headers.get('etag') ?? '', record: splitObject(body)?.record }
      if (found.record || tail === LONG_TAIL_BYTES) return found
    }
    return undefined
  }

  /** The picture of an id with its record, expired or not. */
  async function read(id: string): Promise<StoredImage | undefined> {
    const { status, body } = await client.send({ method: 'GET', key: keys.picture(id), accept: [404] })
    return status === 404 ? undefined : splitObject(body)
  }

  /** The bytes of a picture without its record, as they arrive; undefined when it is gone. */
  function stream({ id, bytes }: ImageFacts): Promise<ReadableStream<Uint8Array> | undefined> {
    return client.open({
      method: 'GET',
      key: keys.picture(id),
      headers: { range: `bytes=0-${bytes - 1}` },
      accept: [404],
    })
  }

  /** Creates the object in the place of `found`, which does not count any more; false when another was first. */
  async function create(options: {
    id: string
    body: Uint8Array<ArrayBuffer>
    found: Found | undefined
    until: number
  }): Promise<boolean> {
    const { id, body, found, until } = options
    const { status } = await client.send({
      method: 'PUT',
      key: keys.picture(id),
      headers: {
        'content-type': 'image/png',
        ...(found ? { 'if-match': found.etag } : { 'if-none-match': '*' }),
      },
      body,
      accept: NOT_FIRST,
      until,
    })
    return !NOT_FIRST.includes(status)
  }

  /** Removes the picture if it is still the one that was found; true when this call removed it. */
  async function removePicture(id: string, { etag }: Found): Promise<boolean> {
    const { status } = await client.send({
      method: 'DELETE',
      key: keys.picture(id),
      // A store that does not know this condition leaves a gap of milliseconds, for an id that is taken anew after it
      // has expired.
      headers: { 'if-match': etag },
      accept: GONE_OR_CHANGED,
    })
    return !GONE_OR_CHANGED.includes(status)
  }

  async function removeNames(names: readonly string[]): Promise<void> {
    for (const key of names) await client.send({ method: 'DELETE', key, accept: [404] })
  }

  return {
    find,
    read,
    stream,
    create,
    removePicture,
    removeNames,

    async writeNames(entry: Entry, until: number): Promise<void> {
      const write = (key: string) => client.send({ method: 'PUT', key, body: new Uint8Array(), until })
      await Promise.all(keys.namesOf(entry).map(write))
    },

    /** Removes the names of an entry, and its picture if there is one; true when this call removed the picture. */
    async remove(entry: Entry): Promise<boolean> {
      const found = await find(entry.id)
      const isIts = found?.record !== undefined && keys.entryOf(found.record, entry.bytes).key === entry.key
      const removed = isIts && (await removePicture(entry.id, found))
      await removeNames(keys.namesOf(entry))
      return removed
    },

    /** Pages of entries, soonest expiry first. */
    async *entries(): AsyncGenerator<Entry[]> {
      let after: string | undefined
      for (;;) {
        const { keys: names, more } = await client.list({
          prefix: keys.expiryFolder,
          limit: KEYS_PER_PAGE,
          after,
        })
        yield names.flatMap((key) => keys.parseExpiryKey(key) ?? [])
        after = names.at(-1)
        if (!more || after === undefined) return
      }
    },
  }
}

/** The object that holds a picture and its record. */
export function joinObject({ record, png }: StoredImage): Buffer<ArrayBuffer> {
  return Buffer.concat([png, Buffer.from(`\n${JSON.stringify(record)}`)])
}

/** Size of the object of a stored record. */
export function objectBytes(record: ImageRecord): number {
  return record.bytes + 1 + Buffer.byteLength(JSON.stringify(record))
}

/** What `joinObject` joined, also from the end of it; undefined when there is no whole record. */
function splitObject(object: Buffer<ArrayBuffer>): StoredImage | undefined {
  // JSON.stringify escapes every line feed, so the last one is the separator.
  const end = object.lastIndexOf(LINE_FEED)
  const record = end < 0 ? undefined : parseRecord(object.toString('utf8', end + 1))
  return record && { record, png: object.subarray(0, end) }
}

/** Results in the order of the items, `AT_ONCE` at a time. */
export async function inParallel<T, R>(items: readonly T[], act: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  for (let start = 0; start < items.length; start += AT_ONCE)
    results.push(...(await Promise.all(items.slice(start, start + AT_ONCE).map(act))))
  return results
}
