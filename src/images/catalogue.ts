/** Which pictures a store holds, and whose: finds what to remove for room, what has expired, and the next page. */
import { AppError, quote } from '../errors.ts'
import type { ImageRecord } from './image.ts'
import { Sorted } from './sorted.ts'

interface Entry {
  readonly id: string
  readonly owner: Owner
  /** The space that the picture takes in the store, in bytes. */
  readonly bytes: number
  /** Milliseconds since 1970, like `expiresAt`. */
  readonly createdAt: number
  readonly expiresAt: number
}

interface Owner {
  readonly name: string
  /** What all of its pictures take. */
  bytes: number
  /** Oldest first; never empty. */
  readonly pictures: Sorted<Entry, Place>
}

/** Where a picture is in the order of creation. */
export type Place = Pick<Entry, 'createdAt' | 'id'>

export type Catalogue = ReturnType<typeof createCatalogue>

/** True once a record's picture counts as absent. `now` in milliseconds since 1970. */
export function hasExpired(record: ImageRecord, now: number): boolean {
  return Date.parse(record.expires_at) <= now
}

/**
 * An empty catalogue. It holds at most 200 bytes per picture, and 400 more per owner; neither the picture nor its prompt.
 * Each function costs O(log n) for each picture that it adds, removes or returns. `onCompare` is for tests that count.
 */
export function createCatalogue({ onCompare }: { onCompare?: () => void } = {}) {
  const counting = <Key>(compare: (a: Key, b: Key) => number) =>
    onCompare
      ? (a: Key, b: Key) => {
          onCompare()
          return compare(a, b)
        }
      : compare
  const byId = new Map<string, Entry>()
  const byExpiry = new Sorted<Entry>(counting((a, b) => a.expiresAt - b.expiresAt || byText(a.id, b.id)))
  const owners = new Map<string, Owner>()
  const byWeight = new Sorted<Owner>(counting((a, b) => a.bytes - b.bytes || byText(a.name, b.name)))
  let total = 0
  let early = 0

  function weigh(owner: Owner, bytes: number): void {
    if (owner.bytes > 0) byWeight.remove(owner)
    owner.bytes += bytes
    total += bytes
    if (owner.bytes > 0) byWeight.add(owner)
  }

  function drop(entry: Entry): void {
    const { owner } = entry
    byId.delete(entry.id)
    byExpiry.remove(entry)
    owner.pictures.remove(entry)
    weigh(owner, -entry.bytes)
    if (owner.bytes === 0) owners.delete(owner.name)
  }

  function heaviestBut(owner: Owner | undefined): Owner | undefined {
    for (const other of byWeight.descending()) if (other !== owner) return other
    return undefined
  }

  return {
    has: (id: string) => byId.has(id),
    /** All ids. Pictures may come and go while you go through them. */
    ids: () => byId.keys(),
    /** What all pictures take, in bytes. */
    bytes: () => total,
    /** How many pictures made room before they expired. */
    removedEarly: () => early,

    /** Adds a picture that takes `bytes`, at least one; it replaces one with its id. */
    add(record: Pick<ImageRecord, 'id' | 'owner' | 'created_at' | 'expires_at'>, bytes: number): void {
      const { id, created_at, expires_at } = record
      const former = byId.get(id)
      if (former) drop(former)
      const owner = owners.get(record.owner) ?? {
        name: record.owner,
        bytes: 0,
        pictures: new Sorted<Entry, Place>(counting(byAge)),
      }
      const entry = { id, owner, bytes, createdAt: Date.parse(created_at), expiresAt: Date.parse(expires_at) }
      byId.set(id, entry)
      byExpiry.add(entry)
      owners.set(owner.name, owner)
      owner.pictures.add(entry)
      weigh(owner, bytes)
    },

    remove(id: string): void {
      const entry = byId.get(id)
      if (entry) drop(entry)
    },

    /** At most `limit` ids of expired pictures, those first that expired first. */
    expired(now: number, limit: number): string[] {
      const ids: string[] = []
      for (const { id, expiresAt } of byExpiry.ascending()) {
        if (expiresAt > now || ids.length === limit) break
        ids.push(id)
      }
      return ids
    },

    /**
     * Takes out what has to go before `bytes` more of `owner` fit into `maxBytes`, and returns its ids: the expired, then
     * the oldest picture of whoever holds most, the new picture counted, until there is room. Nobody loses a valid picture
     * to another owner while it holds at most its share, which is `maxBytes` over the owners. `fits` is false where there
     * is no room without that; then only expired pictures go. It is also false where `limit` ids are not enough.
     */
    makeRoom(options: { owner: string; bytes: number; maxBytes: number; now: number; limit?: number }) {
      const { bytes, maxBytes, now, limit = Number.POSITIVE_INFINITY } = options
      const ids: string[] = []
      const isFull = () => total + bytes > maxBytes
      const goesOn = () => isFull() && ids.length < limit
      const take = (entry: Entry) => {
        drop(entry)
        ids.push(entry.id)
      }
      for (let next = byExpiry.first(); goesOn() && next && next.expiresAt <= now; next = byExpiry.first())
        take(next)
      if (!isFull()) return { ids, fits: true }

      const own = owners.get(options.owner)
      const share = maxBytes / (owners.size + (own ? 0 : 1))
      // A picture within a share always fits: the others hold more than their shares together.
      const missing = total + bytes - maxBytes - (own?.bytes ?? 0)
      if (bytes > share && !canGive({ byWeight, but: own, bytes: missing, share }))
        return { ids, fits: false }
      while (goesOn()) {
        const other = heaviestBut(own)
        const ownBytes = own?.bytes ?? 0
        const heaviest = own && ownBytes > 0 && ownBytes + bytes >= (other?.bytes ?? 0) ? own : other
        const oldest = heaviest?.pictures.first()
        if (!oldest) break
        take(oldest)
        early += 1
      }
      return { ids, fits: !isFull() }
    },

    /**
     * One owner's pictures, newest first. `next` says where to go on, also if the picture that it names is gone by then.
     * Passes over what has expired and is not removed yet.
     * @throws AppError `invalid_request` for a limit outside 1-100, or an `after` that was never a `next`.
     */
    page(options: { owner: string; limit: number; after: string | undefined; now: number }) {
      const { owner, limit, after, now } = options
      checkLimit(limit)
      const place = after === undefined ? undefined : parseCursor(after)
      const ids: string[] = []
      let last: Entry | undefined
      for (const entry of owners.get(owner)?.pictures.descending(place) ?? []) {
        if (entry.expiresAt <= now) continue
        if (last && ids.length === limit) return { ids, next: cursorOf(last) }
        ids.push(entry.id)
        last = entry
      }
      return { ids }
    },
  }
}

/** True where owners that hold more than `share` could give `bytes` without falling below it by more than a picture. */
function canGive(options: {
  byWeight: Sorted<Owner>
  but: Owner | undefined
  bytes: number
  share: number
}): boolean {
  const { byWeight, but, bytes, share } = options
  let missing = bytes
  for (const other of byWeight.descending()) {
    if (missing <= 0 || other.bytes <= share) break
    if (other === but) continue
    let held = other.bytes
    for (const entry of other.pictures.ascending()) {
      if (held <= share) break
      held -= entry.bytes
      missing -= entry.bytes
    }
  }
  return missing <= 0
}

function byAge(a: Place, b: Place): number {
  return a.createdAt - b.createdAt || byText(a.id, b.id)
}

function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
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
