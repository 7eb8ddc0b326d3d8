/**
 * Pictures in a bucket of an S3-compatible store: any number of server processes on one bucket are one store.
 *
 * - `pictures/{id}.png`: the PNG, a line feed, and the record as one line of JSON. One object, because the store
 *   creates one object at once or not at all: what is visible is whole, and `If-None-Match: *` lets the first writer
 *   win. The record is at the end, so that the object still opens as a picture, and `head` reads the end only. It is
 *   not in the object's metadata, which holds 2 KB where a record with two long prompts takes 24.
 * - `by-owner/{hash of the owner}/...`: empty; the name says when it was made, counted backwards, because a bucket
 *   lists by name in ascending order: a page of a listing is one request and then the records of that page.
 * - `by-expiry/...`: empty; the name starts with the time of expiry, so that a sweep sees what has expired and no more.
 *
 * The two names are written before the picture and removed after it. A process that dies in between leaves names
 * without a picture: readers pass over them, since a name counts only for the record that it is made from, and the
 * sweep removes them when they expire. So no picture is ever left that no sweep would find.
 *
 * Instead of the sweep, or besides it, the bucket may have a lifecycle rule on the whole prefix that expires objects
 * after a day more than pictures live: it may remove any of the three objects in any order.
 */
import { randomUUID } from 'node:crypto'
import { sha256 } from '../hash.ts'
import { checkLimit, createCatalogue, cursorOf, digits, hasExpired, parseCursor } from './catalogue.ts'
import { checkFits, checkImage, isImageId, parseRecord } from './check.ts'
import type { ImageRecord, ImageStore, StoredImage } from './image.ts'
import { told as tell } from './outage.ts'
import { createS3Client, isOutage, type S3Client, S3Failure } from './s3-client.ts'

/** Enough for nearly all records; a longer one takes a second request. */
const TAIL_BYTES = 4096
/** Longer than any record: two prompts of 2000 characters, each of them six bytes in JSON, and the rest. */
const LONG_TAIL_BYTES = 65_536
/** What one request lists at most, by the rules of S3. */
const KEYS_PER_PAGE = 1000
/** Requests at once for a listing or a sweep. */
const AT_ONCE = 16
/** Only other processes that replace the same expired picture at the same moment make more than two necessary. */
const MAX_ATTEMPTS = 5
const LINE_FEED = 10

/** Not there, or not as it was when it was read. */
const GONE_OR_CHANGED = [404, 412]
/** The id was taken, or another process writes it at this moment (409), or what was to be replaced is gone (404). */
const NOT_FIRST = [404, 409, 412]

/** An object as it was read. `record` is undefined when its bytes are no picture of this store. */
interface Found {
  readonly etag: string
  readonly record: ImageRecord | undefined
}

/** What the name of a `by-expiry` object says about its picture. Times in milliseconds since 1970. */
interface Entry {
  readonly key: string
  readonly expiresAt: number
  readonly createdAt: number
  /** Size of the picture's object. */
  readonly bytes: number
  readonly ownerHash: string
  readonly id: string
}

/**
 * A store in `bucket` at `endpoint`, checked by listing, writing and deleting. While the S3 store is down, `put` keeps
 * the picture in memory and tries again for `retryForMs` (60 s), everything else for 3 s; one request takes at most
 * `timeoutMs` (15 s) on top. After that they throw AppError `overloaded`, and after any refusal `internal`. The keys
 * are read for every request, so they may be rotated. `close` ends what is under way as an outage would.
 *
 * `maxBytes` bounds what the pictures and their records take; the oldest go first. It costs a request per 1000 pictures
 * at every `put`, and processes that put at the same moment may exceed it until the next one: leave it out for a big
 * bucket, which then is bounded by expiry alone. `prefix` puts everything below one folder. `now` gives milliseconds
 * since 1970.
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
  const { bucket, region = 'us-east-1', accessKey, secretKey, maxBytes = Number.POSITIVE_INFINITY } = options
  const { now = Date.now, timeoutMs = 15_000, retryForMs = 60_000, fetch = globalThis.fetch } = options
  const endpoint = checkEndpoint(options.endpoint)
  const prefix = checkPrefix(options.prefix ?? '')
  checkBucketName(bucket)
  const client = createS3Client({
    bucketUrl: `${endpoint}/${bucket}`,
    region,
    accessKey,
    secretKey,
    timeoutMs,
    fetch,
  })
  await checkBucket({ client, prefix, endpoint, bucket, region })

  let lastBounded: Promise<unknown> = Promise.resolve()

  const pictureKey = (id: string) => `${prefix}pictures/${id}.png`
  const ownerFolder = (ownerHash: string) => `${prefix}by-owner/${ownerHash}/`
  const ownerKey = ({ ownerHash, createdAt, expiresAt, id }: Omit<Entry, 'key'>) =>
    `${ownerFolder(ownerHash)}${place({ createdAt, id })}${digits(expiresAt)}`
  const expiryFolder = `${prefix}by-expiry/`

  function entryOf(record: ImageRecord, bytes: number): Entry {
    const { id } = record
    const [createdAt, expiresAt] = [Date.parse(record.created_at), Date.parse(record.expires_at)]
    const ownerHash = sha256(record.owner, 'hex')
    const key = `${expiryFolder}${digits(expiresAt)}.${digits(createdAt)}.${bytes}.${ownerHash}.${id}`
    return { key, expiresAt, createdAt, bytes, ownerHash, id }
  }

  /** The object of an id, expired or not, without its picture. */
  async function find(id: string, until?: number): Promise<Found | undefined> {
    for (const tail of [TAIL_BYTES, LONG_TAIL_BYTES]) {
      const { status, headers, body } = await client.send({
        method: 'GET',
        key: pictureKey(id),
        headers: { range: `bytes=-${tail}` },
        accept: [404],
        ...(until === undefined ? {} : { until }),
      })
      if (status === 404) return undefined
      const found = { etag: headers.get('etag') ?? '', record: splitObject(body)?.record }
      if (found.record || tail === LONG_TAIL_BYTES) return found
    }
    return undefined
  }

  /** Removes the picture if it is still the one that was found; true when this call removed it. */
  async function removePicture(id: string, { etag }: Found): Promise<boolean> {
    const { status } = await client.send({
      method: 'DELETE',
      key: pictureKey(id),
      // A store that does not know this condition leaves a gap of milliseconds, for an id that is taken anew after it
      // has expired.
      headers: { 'if-match': etag },
      accept: GONE_OR_CHANGED,
    })
    return !GONE_OR_CHANGED.includes(status)
  }

  /** The name that a sweep goes by is the last to go: what a crash leaves is found again. */
  const namesOf = (entry: Entry) => [ownerKey(entry), entry.key]

  async function removeNames(names: readonly string[]): Promise<void> {
    for (const key of names) await client.send({ method: 'DELETE', key, accept: [404] })
  }

  async function remove(entry: Entry): Promise<boolean> {
    const found = await find(entry.id)
    const isIts = found?.record !== undefined && entryOf(found.record, entry.bytes).key === entry.key
    const removed = isIts && (await removePicture(entry.id, found))
    await removeNames(namesOf(entry))
    return removed
  }

  /** Pages of names, soonest expiry first. */
  async function* entries(): AsyncGenerator<Entry[]> {
    let after: string | undefined
    for (;;) {
      const start = after === undefined ? {} : { after }
      const { keys, more } = await client.list({ prefix: expiryFolder, limit: KEYS_PER_PAGE, ...start })
      yield keys.flatMap((key) => parseExpiryKey(key, expiryFolder) ?? [])
      after = keys.at(-1)
      if (!more || after === undefined) return
    }
  }

  async function makeRoom(bytes: number): Promise<void> {
    const catalogue = createCatalogue()
    const byKey = new Map<string, Entry>()
    for await (const page of entries())
      for (const entry of page) {
        const { key, ownerHash, createdAt, expiresAt } = entry
        byKey.set(key, entry)
        const times = { created_at: toIso(createdAt), expires_at: toIso(expiresAt) }
        // By key and not by id, which two names may share when one of them has lost its picture.
        catalogue.add({ id: key, owner: ownerHash, ...times }, entry.bytes)
      }
    const keys = catalogue.inTheWayOf({ bytes, maxBytes, now: now() })
    await inParallel(keys, (key) => remove(byKey.get(key)!))
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
      key: pictureKey(id),
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

  async function store(image: StoredImage, until: number): Promise<ImageRecord> {
    const { record } = image
    const body = joinObject(image)
    const entry = entryOf(record, body.byteLength)
    checkFits({ bytes: body.byteLength, maxBytes })
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
      const found = await find(record.id, until)
      if (found?.record && !hasExpired(found.record, now())) {
        if (attempt > 1) {
          // Another was first: names that only the refused record has would lead nowhere.
          const kept = namesOf(entryOf(found.record, objectBytes(found.record)))
          await removeNames(namesOf(entry).filter((name) => !kept.includes(name)))
        }
        return found.record
      }
      if (attempt === 1) {
        if (maxBytes !== Number.POSITIVE_INFINITY) await makeRoom(body.byteLength)
        const write = (key: string) => client.send({ method: 'PUT', key, body: new Uint8Array(), until })
        await Promise.all(namesOf(entry).map(write))
      }
      if (await create({ id: record.id, body, found, until })) return record
    }
    throw new Error(`Another process keeps changing the object of picture ${record.id}`)
  }

  return {
    async put(image) {
      checkImage(image)
      const until = performance.now() + retryForMs
      // One at a time where there is a bound, so that it holds.
      const stored = Number.isFinite(maxBytes)
        ? lastBounded.then(() => store(image, until))
        : store(image, until)
      lastBounded = stored.catch(() => {})
      return told('The picture could not be stored', () => stored)
    },

    get: (id) =>
      told('The picture could not be read', async () => {
        if (!isImageId(id)) return undefined
        const { status, body } = await client.send({ method: 'GET', key: pictureKey(id), accept: [404] })
        const image = status === 404 ? undefined : splitObject(body)
        return image && !hasExpired(image.record, now()) ? image : undefined
      }),

    head: (id) =>
      told('The picture could not be looked up', async () => {
        const found = isImageId(id) ? await find(id) : undefined
        return found?.record && !hasExpired(found.record, now()) ? found.record : undefined
      }),

    delete: (id) =>
      told('The picture could not be deleted', async () => {
        const found = isImageId(id) ? await find(id) : undefined
        if (!found?.record || hasExpired(found.record, now())) return false
        const removed = await removePicture(id, found)
        if (removed) await removeNames(namesOf(entryOf(found.record, objectBytes(found.record))))
        return removed
      }),

    list: (owner, { limit, after }) =>
      told('The pictures could not be listed', async () => {
        checkLimit(limit)
        const folder = ownerFolder(sha256(owner, 'hex'))
        const records: ImageRecord[] = []
        // A name that ends where the times of expiry begin, with the highest of characters, comes after all of its
        // picture's.
        let start = after === undefined ? undefined : `${folder}${place(parseCursor(after))}~`
        for (let pageSize = limit + 1; ; pageSize = KEYS_PER_PAGE) {
          const page = await client.list({
            prefix: folder,
            limit: pageSize,
            ...(start === undefined ? {} : { after: start }),
          })
          const valid = page.keys.flatMap((key) => {
            const { id, expiresAt } = parseOwnerKey(key, folder) ?? {}
            return id !== undefined && expiresAt! > now() ? { key, id } : []
          })
          for (let index = 0; index < valid.length && records.length <= limit; index += AT_ONCE) {
            const found = await inParallel(valid.slice(index, index + AT_ONCE), async ({ key, id }) => {
              const record = (await find(id))?.record
              return record && ownerKey(entryOf(record, 0)) === key ? record : undefined
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
      }),

    sweep: () =>
      told('Expired pictures could not be removed', async () => {
        let removed = 0
        for await (const page of entries()) {
          const expired = page.filter(({ expiresAt }) => expiresAt <= now())
          removed += (await inParallel(expired, remove)).filter(Boolean).length
          if (expired.length < page.length) break
        }
        return removed
      }),

    async close() {
      client.close()
    },
  }
}

/** The object that holds a picture and its record. */
function joinObject({ record, png }: StoredImage): Buffer<ArrayBuffer> {
  return Buffer.concat([png, Buffer.from(`\n${JSON.stringify(record)}`)])
}

/** Size of the object of a stored record. */
function objectBytes(record: ImageRecord): number {
  return record.bytes + 1 + Buffer.byteLength(JSON.stringify(record))
}

/** What `joinObject` joined, also from the end of it; undefined when there is no whole record. */
function splitObject(object: Buffer<ArrayBuffer>): StoredImage | undefined {
  // JSON.stringify escapes every line feed, so the last one is the separator.
  const end = object.lastIndexOf(LINE_FEED)
  const record = end < 0 ? undefined : parseRecord(object.toString('utf8', end + 1))
  return record && { record, png: object.subarray(0, end) }
}

const told = <T>(what: string, act: () => Promise<T>) => tell(what, act, isOutage)

const toIso = (ms: number) => new Date(ms).toISOString()

/** The characters of ids in ascending order. */
const ID_CHARACTERS = '-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz'
/** Above `LAST_MS` no date is valid. */
const LAST_MS = 8_640_000_000_000_000

/** An id as text that sorts the other way round, and back. The tilde is added to it: it sorts after all of them. */
function mirror(id: string): string {
  return id.replace(/./g, (character) => ID_CHARACTERS.at(-1 - ID_CHARACTERS.indexOf(character))!)
}

/** A picture's place in its owner's listing, newest first, as text that sorts the same way. */
function place({ createdAt, id }: { createdAt: number; id: string }): string {
  return `${digits(LAST_MS - Math.max(0, createdAt))}.${mirror(id)}~`
}

function parseOwnerKey(key: string, folder: string): { id: string; expiresAt: number } | undefined {
  const [, id, expiresAt] = /^\d{16}\.([\w-]{1,64})~(\d{16})$/.exec(key.slice(folder.length)) ?? []
  return id === undefined ? undefined : { id: mirror(id), expiresAt: Number(expiresAt) }
}

function parseExpiryKey(key: string, folder: string): Entry | undefined {
  const name = /^(\d{16})\.(\d{16})\.(\d+)\.([0-9a-f]{64})\.([\w-]{1,64})$/.exec(key.slice(folder.length))
  if (!name) return undefined
  const [, expiresAt, createdAt, bytes, ownerHash, id] = name
  return {
    key,
    expiresAt: Number(expiresAt),
    createdAt: Number(createdAt),
    bytes: Number(bytes),
    ownerHash: ownerHash!,
    id: id!,
  }
}

/** Results in the order of the items, `AT_ONCE` at a time. */
async function inParallel<T, R>(items: readonly T[], act: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  for (let start = 0; start < items.length; start += AT_ONCE)
    results.push(...(await Promise.all(items.slice(start, start + AT_ONCE).map(act))))
  return results
}

function checkEndpoint(endpoint: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined
  const isPlain = url && /^https?:$/.test(url.protocol) && !url.username && !url.password
  // The value is not quoted: it may hold a password.
  if (!isPlain || url.search !== '' || url.hash !== '')
    throw new Error(
      'IMAGES_S3_ENDPOINT must be an http or https URL without user, query and fragment, such as https://s3.example.com; ' +
        'the keys go into IMAGES_S3_ACCESS_KEY and IMAGES_S3_SECRET_KEY.',
    )
  return url.href.replace(/\/+$/, '')
}

function checkBucketName(bucket: string): void {
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket))
    throw new Error(
      `IMAGES_S3_BUCKET must be the name of a bucket, 3 to 63 of a-z, 0-9, "." and "-" (got ${JSON.stringify(bucket)}).`,
    )
}

/** The prefix with one slash at its end, or an empty one. */
function checkPrefix(prefix: string): string {
  const folders = prefix.replace(/\/$/, '')
  if (folders === '') return ''
  if (folders.length > 200 || !folders.split('/').every((name) => /^(?!\.{1,2}$)[\w.-]+$/.test(name)))
    throw new Error(
      'IMAGES_S3_PREFIX must be a path of A-Z, a-z, 0-9, "_", "-", "." such as diffusers-mcp/images, at most 200 characters ' +
        `(got ${JSON.stringify(prefix)}).`,
    )
  return `${folders}/`
}

/** Does once what the store will do all the time, so that a wrong setting stops the start and not the first picture. */
async function checkBucket(options: {
  client: S3Client
  prefix: string
  endpoint: string
  bucket: string
  region: string
}): Promise<void> {
  const { client, prefix, endpoint, bucket } = options
  const key = `${prefix}probe/${randomUUID()}`
  const body = new TextEncoder().encode('Written and deleted at the start of a server.')
  const condition = { 'if-none-match': '*' }
  let second: { readonly status: number }
  try {
    await client.list({ prefix, limit: 1 })
    await client.send({ method: 'PUT', key, body })
    second = await client.send({ method: 'PUT', key, body, headers: condition, accept: [412] })
    await client.send({ method: 'DELETE', key })
  } catch (error) {
    if (!(error instanceof S3Failure)) throw error
    throw new Error(`The image store cannot be used (${error.message}). ${adviceFor(error, options)}`, {
      cause: error,
    })
  }
  if (second.status !== 412)
    throw new Error(
      `The S3 store at ${endpoint} ignores "If-None-Match: *", so two servers could overwrite each other's pictures in ` +
        `${bucket}. Update it, or let IMAGES_S3_ENDPOINT name one that knows conditional writes.`,
    )
}

function adviceFor(
  failure: S3Failure,
  settings: { endpoint: string; bucket: string; region: string },
): string {
  const { endpoint, bucket, region } = settings
  const { status, code } = failure
  if (failure.transient)
    return `Nothing useful answers at ${endpoint}: check IMAGES_S3_ENDPOINT, and that the store runs and can be reached from here.`
  if (status === 404)
    return `There is no bucket ${bucket} at ${endpoint}: create it, or let IMAGES_S3_BUCKET name one that is there.`
  if (status === 301 || status === 307 || code === 'AuthorizationHeaderMalformed')
    return `The bucket ${bucket} is not in the region ${region}: set IMAGES_S3_REGION to its own, and IMAGES_S3_ENDPOINT to that region's address.`
  if (code === 'InvalidAccessKeyId')
    return 'The store does not know this key: check IMAGES_S3_ACCESS_KEY, and that it belongs to this endpoint.'
  if (code === 'SignatureDoesNotMatch')
    return 'The signature is wrong: check IMAGES_S3_SECRET_KEY, and that IMAGES_S3_ENDPOINT is the name that the store itself has.'
  if (code === 'RequestTimeTooSkewed')
    return 'Set the clock of this machine: it differs from the clock of the store.'
  if (status === 401 || status === 403)
    return (
      `The key of IMAGES_S3_ACCESS_KEY and IMAGES_S3_SECRET_KEY may not do this: allow it to list ${bucket} and to get, ` +
      'put and delete objects below IMAGES_S3_PREFIX.'
    )
  return `Check that IMAGES_S3_ENDPOINT (${endpoint}) is the address of an S3 store, and that IMAGES_S3_BUCKET (${bucket}) is a bucket of it.`
}
