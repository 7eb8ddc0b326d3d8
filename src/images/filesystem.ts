/**
 * Pictures in a folder: they survive a restart, and processes may share the folder.
 *
 * A picture is a folder `{id}.image` that holds picture.png and record.json. It is written as `{uuid}.partial`, synced
 * to disk and renamed. Renaming a folder onto one that is not empty fails, so the first writer wins between processes
 * too, and what has its name is whole. Removal goes the same way backwards. Nothing without these names is touched.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { AppError } from '../errors.ts'
import { createCatalogue, hasExpired } from './catalogue.ts'
import { checkFits, checkImage, isImageId, parseRecord } from './check.ts'
import type { ImageRecord, ImageStore, StoredImage } from './image.ts'

const PICTURE_FOLDER = /^([A-Za-z0-9_-]{1,64})\.image$/
const PARTIAL_FOLDER = /^[0-9a-f-]{36}\.partial$/
const PICTURE = 'picture.png'
const RECORD = 'record.json'
/** Far longer than any write takes, so that a sweep never removes what another process is writing. */
const PARTIAL_MAX_AGE_MS = 10 * 60_000
/** Most file systems give out space in blocks of this size; each folder takes one as well. */
const BLOCK_BYTES = 4096
/** Records read at once when a filled folder is opened. */
const READ_AT_ONCE = 32

/** POSIX lets rename say either when the new name belongs to a folder that is not empty. */
const TAKEN = ['ENOTEMPTY', 'EEXIST']
/** Only other processes that replace the same expired picture at the same moment make more than two necessary. */
const MAX_ATTEMPTS = 5

/**
 * A store in `directory`, created when missing; folders get mode 0700, files 0600. `maxBytes` bounds the space on
 * disk, rounded up to blocks; to make room the oldest pictures go first. `now` gives milliseconds since 1970.
 * @throws Error when the folder cannot be created or written to; the message says what to do.
 */
export async function createFilesystemImages(options: {
  directory: string
  maxBytes: number
  now?: () => number
}): Promise<ImageStore> {
  const { maxBytes, now = Date.now } = options
  const directory = resolve(options.directory)
  const catalogue = createCatalogue()
  let lastChange: Promise<unknown> = Promise.resolve()

  const folderOf = (id: string) => join(directory, `${id}.image`)
  const newPartial = () => join(directory, `${randomUUID()}.partial`)

  /** One change at a time, so that the bound holds and an expired picture is replaced once. */
  function alone<T>(change: () => Promise<T>): Promise<T> {
    const result = lastChange.then(change)
    lastChange = result.catch(() => {})
    return result
  }

  /** The record of a whole picture, expired or not. */
  async function readRecord(id: string): Promise<ImageRecord | undefined> {
    if (!isImageId(id)) return undefined
    return ifThere(async () => {
      const folder = folderOf(id)
      const [text, { size }] = await Promise.all([
        readFile(join(folder, RECORD), 'utf8'),
        stat(join(folder, PICTURE)),
      ])
      const record = parseRecord(text)
      return record?.bytes === size ? record : undefined
    })
  }

  async function head(id: string): Promise<ImageRecord | undefined> {
    const record = await readRecord(id)
    return record && !hasExpired(record, now()) ? record : undefined
  }

  /** Takes over what other processes did to the folder; returns the ids whose folders hold no whole picture. */
  async function refresh(): Promise<string[]> {
    const folders = (await readdir(directory, { withFileTypes: true })).filter((entry) => entry.isDirectory())
    const found = new Set(folders.flatMap(({ name }) => PICTURE_FOLDER.exec(name)?.[1] ?? []))
    for (const id of catalogue.ids()) if (!found.has(id)) catalogue.remove(id)
    // What has expired may have been replaced since: it is read again.
    for (const id of catalogue.expired(now())) catalogue.remove(id)
    const unknown = [...found].filter((id) => !catalogue.has(id))
    const damaged: string[] = []
    for (let start = 0; start < unknown.length; start += READ_AT_ONCE) {
      const ids = unknown.slice(start, start + READ_AT_ONCE)
      const records = await Promise.all(ids.map(readRecord))
      records.forEach((record, index) => {
        const id = ids[index]!
        // The folder's name is the id: whatever the record says, the picture is found, counted and removed by it.
        if (record) catalogue.add({ ...record, id }, sizeOnDisk(record, JSON.stringify(record)))
        else damaged.push(id)
      })
    }
    return damaged
  }

  /** Removes a picture in one step, whatever state it is in. */
  async function discard(id: string): Promise<void> {
    const partial = newPartial()
    await ifThere(() => rename(folderOf(id), partial))
    catalogue.remove(id)
    await rm(partial, { recursive: true, force: true })
  }

  /** Gives a finished folder its name; returns the picture that has it already, if that one counts. */
  async function publish(partial: string, id: string): Promise<ImageRecord | undefined> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await rename(partial, folderOf(id))
        return undefined
      } catch (error) {
        if (!TAKEN.includes(codeOf(error)) || attempt === MAX_ATTEMPTS) throw error
      }
      const first = await head(id)
      if (first) return first
      // Expired or damaged: it must not keep its name from a good picture.
      await discard(id)
    }
  }

  async function write({ record, png }: StoredImage, json: string): Promise<ImageRecord> {
    const partial = newPartial()
    try {
      await mkdir(partial, { mode: 0o700 })
      await writeSynced(join(partial, PICTURE), png)
      await writeSynced(join(partial, RECORD), json)
      await syncFolder(partial)
      const first = await publish(partial, record.id)
      if (first) return first
    } finally {
      // There is nothing left after a success. Should this fail as well, the sweep removes it later.
      await rm(partial, { recursive: true, force: true }).catch(() => {})
    }
    catalogue.add(record, sizeOnDisk(record, json))
    await syncFolder(directory)
    return record
  }

  async function sweep(): Promise<number> {
    const damaged = await refresh()
    const expired = catalogue.expired(now())
    for (const id of [...expired, ...damaged]) await discard(id)
    for (const name of await readdir(directory)) {
      if (!PARTIAL_FOLDER.test(name)) continue
      const path = join(directory, name)
      const written = await ifThere(() => stat(path))
      if (written && now() - written.mtimeMs > PARTIAL_MAX_AGE_MS)
        await rm(path, { recursive: true, force: true })
    }
    return expired.length
  }

  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    // Before anything is written: a disk that is full of expired pictures is no reason not to start.
    await sweep()
    await tryToWrite(newPartial())
    await syncFolder(directory)
  } catch (error) {
    throw new Error(
      `The image folder ${JSON.stringify(directory)} cannot be used (${codeOf(error)}). Let IMAGES_DIR name a folder ` +
        `that the user of this process (uid ${process.getuid?.()}) may write to, on a disk with space left.`,
      { cause: error },
    )
  }

  return {
    async put(image) {
      checkImage(image)
      const { record } = image
      const json = JSON.stringify(record)
      const bytes = sizeOnDisk(record, json)
      checkFits({ bytes, maxBytes })
      return alone(async () => {
        try {
          const stored = await head(record.id)
          if (stored) return stored
          await refresh()
          for (const id of catalogue.inTheWayOf({ bytes, maxBytes, now: now() })) await discard(id)
          return await write(image, json)
        } catch (error) {
          throw notStored(error)
        }
      })
    },

    async get(id) {
      const record = await head(id)
      if (!record) return undefined
      const png = await ifThere(() => readFile(join(folderOf(id), PICTURE)))
      return png && { record, png }
    },

    head,

    delete: (id) =>
      alone(async () => {
        if (!isImageId(id)) return false
        const found = (await head(id)) !== undefined
        await discard(id)
        if (found) await syncFolder(directory)
        return found
      }),

    async list(owner, { limit, after }) {
      const { ids, ...more } = await alone(async () => {
        await refresh()
        return catalogue.page({ owner, limit, after, now: now() })
      })
      const records = await Promise.all(ids.map(head))
      return { records: records.filter((record) => record !== undefined), ...more }
    },

    sweep: () => alone(sweep),

    async close() {
      await lastChange
    },
  }
}

function sizeOnDisk({ bytes }: ImageRecord, json: string): number {
  const blocks = 1 + Math.ceil(bytes / BLOCK_BYTES) + Math.ceil(Buffer.byteLength(json) / BLOCK_BYTES)
  return blocks * BLOCK_BYTES
}

/** The result, or undefined when a file on the way is not there, or not there any more. */
async function ifThere<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
}

async function writeSynced(path: string, data: Uint8Array | string): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(data)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Makes the names in a folder survive a power failure, as syncing the files alone does not. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** Does once what every write will do, so that a wrong folder stops the start and not the first picture. */
async function tryToWrite(partial: string): Promise<void> {
  await mkdir(partial, { mode: 0o700 })
  await writeSynced(join(partial, RECORD), '{}')
  await rm(partial, { recursive: true })
}

function notStored(error: unknown): AppError {
  if (error instanceof AppError) return error
  const full = ['ENOSPC', 'EDQUOT'].includes(codeOf(error))
  const message = full
    ? 'The picture could not be stored: the disk of the image store is full. The operator has to give it more space, or lower IMAGES_MAX_BYTES below what it has.'
    : 'The picture could not be stored: the image store cannot be written to. The log of the server has the cause.'
  return new AppError('internal', message, { cause: error })
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error)
}
