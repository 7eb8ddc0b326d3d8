/** Pictures in this process's memory: gone with the process. */
import { setImmediate as otherWork } from 'node:timers/promises'
import { createCatalogue, hasExpired } from './catalogue.ts'
import { checkFits, checkImage, checkShare } from './check.ts'
import type { ImageStore, StoredImage } from './image.ts'

/** Expired pictures that are removed in one go: about a millisecond. */
const SLICE = 200

/**
 * A store bounded by `maxBytes`, counting pictures and their records; `makeRoom` of the catalogue says what goes first.
 * `now` gives milliseconds since 1970. `get` returns the stored picture itself: do not write to it.
 */
export function createMemoryImages(options: { maxBytes: number; now?: () => number }): ImageStore {
  const { maxBytes, now = Date.now } = options
  const catalogue = createCatalogue()
  const images = new Map<string, StoredImage>()

  function find(id: string): StoredImage | undefined {
    const image = images.get(id)
    return image && !hasExpired(image.record, now()) ? image : undefined
  }

  function remove(id: string): void {
    images.delete(id)
    catalogue.remove(id)
  }

  /** In slices, so that everything else goes on meanwhile. */
  async function sweep(): Promise<number> {
    for (let removed = 0; ; await otherWork()) {
      const expired = catalogue.expired(now(), SLICE)
      for (const id of expired) remove(id)
      removed += expired.length
      if (expired.length < SLICE) return removed
    }
  }

  return {
    async put(image) {
      checkImage(image)
      const { record } = image
      const stored = find(record.id)
      if (stored) return stored.record
      const bytes = record.bytes + Buffer.byteLength(JSON.stringify(record))
      checkFits({ bytes, maxBytes })
      // An expired picture with this id counts no more.
      remove(record.id)
      const { ids, fits } = catalogue.makeRoom({ owner: record.owner, bytes, maxBytes, now: now() })
      for (const id of ids) remove(id)
      checkShare({ bytes, fits })
      images.set(record.id, { record, png: unpinned(image.png) })
      catalogue.add(record, bytes)
      return record
    },

    async get(id) {
      return find(id)
    },

    async head(id) {
      return find(id)?.record
    },

    async delete(id) {
      const found = find(id) !== undefined
      remove(id)
      return found
    },

    async list(owner, { limit, after }) {
      // So that a page passes over each of them once at most.
      await sweep()
      const { ids, ...more } = catalogue.page({ owner, limit, after, now: now() })
      return { records: ids.map((id) => images.get(id)!.record), ...more }
    },

    sweep,

    usage: () => ({ bytes: catalogue.bytes(), maxBytes, removedEarly: catalogue.removedEarly() }),

    async close() {
      for (const id of catalogue.ids()) remove(id)
    },
  }
}

/**
 * The bytes themselves when they own their buffer; a copy when they are a slice of a much bigger one, such as a whole
 * HTTP answer, which the slice would keep alive without being counted.
 */
function unpinned(bytes: Uint8Array): Uint8Array {
  return bytes.buffer.byteLength > bytes.byteLength * 1.125 ? new Uint8Array(bytes) : bytes
}
