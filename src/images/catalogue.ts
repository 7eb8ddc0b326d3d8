/** Which pictures a store holds, oldest first: finds what to remove for room, what has expired, and the next page. */
import { AppError, quote } from '../errors.ts'
import type { ImageRecord } from './image.ts'

interface Entry {
  readonly id: string
  readonly owner: string
  /** The space that the picture takes in the store, in bytes. */
  readonly bytes: number
  /** Milliseconds since 1970, like `expiresAt`. */
  readonly createdAt: number
  readonly expiresAt: number
}

/** Where a picture is in the order of creation. */
export type Place = Pick<Entry, 'createdAt' | 'id'>

export type Catalogue = ReturnType<typeof createCatalogue>

/** True once a record's picture counts as absent. `now` in milliseconds since 1970. */
export function hasExpired(record: ImageRecord, now: number): boolean {
  return Date.parse(record.expires_at) <= now
}

/** An empty catalogue. It holds about 200 bytes per picture, and neither the picture nor its prompt. */
export function createCatalogue() {
  const byId = new Map<string, Entry>()
  const oldestFirst: Entry[] = []
  let total = 0

  /** Index of the first entry that is not older than the given place. */
  function indexOf(place: Place): number {
    let low = 0
    let high = oldestFirst.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (compare(oldestFirst[middle]!, place) < 0) low = middle + 1
      else high = middle
    }
    return low
  }

  return {
    has: (id: string) => byId.has(id),
    ids: () => [...byId.keys()],
    /** What all pictures take, in bytes. */
    bytes: () => total,

    /** Adds a picture that takes `bytes`; its id must not be there. */
    add(record: Pick<ImageRecord, 'id' | 'owner' | 'created_at' | 'expires_at'>, bytes: number): void {
      const { id, owner, created_at, expires_at } = record
      const entry = { id, owner, bytes, createdAt: Date.parse(created_at), expiresAt: Date.parse(expires_at) }
      byId.set(id, entry)
      oldestFirst.splice(indexOf(entry), 0, entry)
      total += bytes
    },

    remove(id: string): void {
      const entry = byId.get(id)
      if (!entry) return
      byId.delete(id)
      oldestFirst.splice(indexOf(entry), 1)
      total -= entry.bytes
    },

    expired: (now: number) => oldestFirst.filter(({ expiresAt }) => expiresAt <= now).map(({ id }) => id),

    /** The ids to remove before `bytes` more fit into `maxBytes`: the expired pictures, then the oldest. */
    inTheWayOf({ bytes, maxBytes, now }: { bytes: number; maxBytes: number; now: number }): string[] {
      const expired = oldestFirst.filter(({ expiresAt }) => expiresAt <= now)
      const valid = oldestFirst.filter(({ expiresAt }) => expiresAt > now)
      let free = maxBytes - total + expired.reduce((sum, entry) => sum + entry.bytes, 0)
      const tooMany = valid.filter((entry) => {
        if (free >= bytes) return false
        free += entry.bytes
        return true
      })
      return [...expired, ...tooMany].map(({ id }) => id)
    },

    /**
     * One owner's pictures, newest first. `next` says where to go on, also if the picture that it names is gone by then.
     * @throws AppError `invalid_request` for a limit outside 1-100, or an `after` that was never a `next`.
     */
    page(options: { owner: string; limit: number; after: string | undefined; now: number }) {
      const { owner, limit, after, now } = options
      checkLimit(limit)
      const ids: string[] = []
      let last: Entry | undefined
      for (
        let index = after === undefined ? oldestFirst.length : indexOf(parseCursor(after));
        index-- > 0;
      ) {
        const entry = oldestFirst[index]!
        if (entry.owner !== owner || entry.expiresAt <= now) continue
        if (last && ids.length === limit) return { ids, next: cursorOf(last) }
        ids.push(entry.id)
        last = entry
      }
      return { ids }
    },
  }
}

function compare(a: Place, b: Place): number {
  return a.createdAt - b.createdAt || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
}

/**
 * How many pictures a page may have.
 * @throws AppError `invalid_request` outside 1-100.
 */
export function checkLimit(limit: number): void {
  if (!Number.isInteger(limit) || limit < 1 || limit > 100)
    throw new AppError('invalid_request', `limit must be a whole number from 1 to 100 (got ${quote(limit)}).`)
}

/** Milliseconds since 1970 as text that sorts like the number. */
export function digits(ms: number): string {
  return String(Math.max(0, ms)).padStart(16, '0')
}

/** The `next` of a page that ends with this picture. */
export function cursorOf({ createdAt, id }: Place): string {
  return `${createdAt}.${id}`
}

/**
 * What `cursorOf` wrote.
 * @throws AppError `invalid_request` for anything else.
 */
export function parseCursor(after: string): Place {
  const [, createdAt, id] = /^(\d{1,15})\.([A-Za-z0-9_-]{1,64})$/.exec(after) ?? []
  if (createdAt === undefined || id === undefined)
    throw new AppError(
      'invalid_request',
      `after must be the next of an earlier page (got ${quote(after)}); leave it out to start with the newest.`,
    )
  return { createdAt: Number(createdAt), id }
}
