/**
 * The names of a store's objects in its bucket.
 *
 * - `pictures/{id}.png`: a picture with its record; objects.ts says how.
 * - `by-owner/{hash of the owner}/...`: empty. The name says when the picture was made, counted backwards, because a
 *   bucket lists by name in ascending order: a page of a listing is one request, and then the records of that page.
 * - `by-expiry/...`: empty. The name starts with the time of expiry, so that a sweep sees what has expired and no more.
 */
import { sha256 } from '../../hash.ts'
import { digits, type Place } from '../catalogue.ts'
import type { ImageRecord } from '../image.ts'

/** What the name of a `by-expiry` object says about its picture. Times in milliseconds since 1970. */
export interface Entry {
  readonly key: string
  readonly expiresAt: number
  readonly createdAt: number
  /** Size of the picture's object. */
  readonly bytes: number
  readonly ownerHash: string
  readonly id: string
}

export type Keys = ReturnType<typeof createKeys>

/** The names below `prefix`, which is empty or ends with a slash. */
export function createKeys(prefix: string) {
  const expiryFolder = `${prefix}by-expiry/`
  const ownerFolderOf = (ownerHash: string) => `${prefix}by-owner/${ownerHash}/`

  /** The name in its owner's listing. */
  function ownerKey({ ownerHash, createdAt, expiresAt, id }: Omit<Entry, 'key'>): string {
    return `${ownerFolderOf(ownerHash)}${placeText({ createdAt, id })}${digits(expiresAt)}`
  }

  return {
    expiryFolder,
    picture: (id: string) => `${prefix}pictures/${id}.png`,
    ownerFolder: (owner: string) => ownerFolderOf(sha256(owner, 'hex')),
    ownerKey,

    /** The entry of a record whose object has `bytes` bytes. */
    entryOf(record: ImageRecord, bytes: number): Entry {
      const { id } = record
      const [createdAt, expiresAt] = [Date.parse(record.created_at), Date.parse(record.expires_at)]
      const ownerHash = sha256(record.owner, 'hex')
      const key = `${expiryFolder}${digits(expiresAt)}.${digits(createdAt)}.${bytes}.${ownerHash}.${id}`
      return { key, expiresAt, createdAt, bytes, ownerHash, id }
    },

    /** Both names of a picture. The name that a sweep goes by is the last to go: what a crash leaves is found again. */
    namesOf: (entry: Entry) => [ownerKey(entry), entry.key],

    /** What the name of a `by-expiry` object says; undefined for a name of another kind. */
    parseExpiryKey(key: string): Entry | undefined {
      const name = /^(\d{16})\.(\d{16})\.(\d+)\.([0-9a-f]{64})\.([\w-]{1,64})$/.exec(
        key.slice(expiryFolder.length),
      )
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
    },
  }
}

/** What the name of an object in `folder`, an owner's, says; undefined for a name of another kind. */
export function parseOwnerKey(key: string, folder: string): { id: string; expiresAt: number } | undefined {
  const [, id, expiresAt] = /^\d{16}\.([\w-]{1,64})~(\d{16})$/.exec(key.slice(folder.length)) ?? []
  return id === undefined ? undefined : { id: mirror(id), expiresAt: Number(expiresAt) }
}

/** Comes after the names of the picture at that place, and before all older ones of the same folder. */
export function afterPlace(place: Place, folder: string): string {
  // The times of expiry would follow; the highest of characters comes after all of them.
  return `${folder}${placeText(place)}~`
}

/** The characters of ids in ascending order. */
const ID_CHARACTERS = '-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz'
/** Above `LAST_MS` no date is valid. */
const LAST_MS = 8_640_000_000_000_000

/** An id as text that sorts the other way round, and back. */
function mirror(id: string): string {
  return id.replace(/./g, (character) => ID_CHARACTERS.at(-1 - ID_CHARACTERS.indexOf(character))!)
}

/** A picture's place in its owner's listing, newest first, as text that sorts the same way. */
function placeText({ createdAt, id }: Place): string {
  // The tilde sorts after all characters of ids, so that an id comes after the longer ones that begin with it.
  return `${digits(LAST_MS - Math.max(0, createdAt))}.${mirror(id)}~`
}
