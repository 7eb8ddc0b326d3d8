/** Stores a picture in a bucket: room first, then its names, then the picture, which the first writer creates. */
import { createCatalogue, hasExpired } from '../catalogue.ts'
import { checkFits, checkShare } from '../check.ts'
import type { ImageRecord, StoredImage } from '../image.ts'
import type { Entry, Keys } from './keys.ts'
import { inParallel, joinObject, type Objects, objectBytes } from './objects.ts'

/** Only other processes that replace the same expired picture at the same moment make more than two necessary. */
const MAX_ATTEMPTS = 5

/** What every `put` of a store has in common. */
export interface PutContext {
  readonly keys: Keys
  readonly objects: Objects
  /** Infinity: no bound. */
  readonly maxBytes: number
  readonly now: () => number
}

/**
 * Returns the record that is stored: that of the picture, or of the one that has its id already.
 * @param options.until time of `performance.now()` from which a failure is final.
 */
export async function putPicture(
  image: StoredImage,
  { keys, objects, maxBytes, now, until }: PutContext & { until: number },
): Promise<ImageRecord> {
  const { record } = image
  const body = joinObject(image)
  const entry = keys.entryOf(record, body.byteLength)
  checkFits({ bytes: body.byteLength, maxBytes })
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
    const found = await objects.find(record.id, until)
    if (found?.record && !hasExpired(found.record, now())) {
      if (attempt > 1) {
        // Another was first: names that only the refused record has would lead nowhere.
        const kept = keys.namesOf(keys.entryOf(found.record, objectBytes(found.record)))
        await objects.removeNames(keys.namesOf(entry).filter((name) => !kept.includes(name)))
      }
      return found.record
    }
    if (attempt === 1) {
      if (maxBytes !== Number.POSITIVE_INFINITY)
        await makeRoom({ objects, owner: entry.ownerHash, bytes: body.byteLength, maxBytes, now })
      await objects.writeNames(entry, until)
    }
    if (await objects.create({ id: record.id, body, found, until })) return record
  }
  throw new Error(`Another process keeps changing the object of picture ${record.id}`)
}

/** Removes what has to go before `bytes` more fit into `maxBytes`. */
async function makeRoom(options: {
  objects: Objects
  owner: string
  bytes: number
  maxBytes: number
  now: () => number
}): Promise<void> {
  const { objects, owner, bytes, maxBytes, now } = options
  const catalogue = createCatalogue()
  const byKey = new Map<string, Entry>()
  for await (const page of objects.entries())
    for (const entry of page) {
      const { key, ownerHash, createdAt, expiresAt } = entry
      byKey.set(key, entry)
      const times = { created_at: toIso(createdAt), expires_at: toIso(expiresAt) }
      // By key and not by id, which two names may share when one of them has lost its picture.
      catalogue.add({ id: key, owner: ownerHash, ...times }, entry.bytes)
    }
  const { ids, fits } = catalogue.makeRoom({ owner, bytes, maxBytes, now: now() })
  await inParallel(ids, (key) => objects.remove(byKey.get(key)!))
  checkShare({ bytes, fits })
}

const toIso = (ms: number) => new Date(ms).toISOString()
