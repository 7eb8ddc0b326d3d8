/** Pictures in a folder: they survive a restart, and processes may share the folder. files.ts says what lies in it. */
import { resolve } from 'node:path'
import { AppError } from '../../errors.ts'
import { createCatalogue, hasExpired } from '../catalogue.ts'
import { checkFits, checkImage, isImageId } from '../check.ts'
import type { ImageRecord, ImageStore, StoredImage } from '../image.ts'
import { codeOf, createFiles, isTaken, sizeOnDisk } from './files.ts'

/** Records read at once when a filled folder is opened. */
const READ_AT_ONCE = 32
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
  const folder = createFolder({ directory, now })
  const { files, catalogue, head, refresh, discard, write, sweep } = folder
  let lastChange: Promise<unknown> = Promise.resolve()

  /** One change at a time, so that the bound holds and an expired picture is replaced once. */
  function alone<T>(change: () => Promise<T>): Promise<T> {
    const result = lastChange.then(change)
    lastChange = result.catch(() => {})
    return result
  }

  try {
    await files.createDirectory()
    // Before anything is written: a disk that is full of expired pictures is no reason not to start.
    await sweep()
    await files.tryToWrite()
    await files.sync()
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
      const png = await files.readPicture(id)
      return png && { record, png }
    },

    head,

    delete: (id) =>
      alone(async () => {
        if (!isImageId(id)) return false
        const found = (await head(id)) !== undefined
        await discard(id)
        if (found) await files.sync()
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

/** The folder with a catalogue of what is in it, which every change keeps true. `directory` is an absolute path. */
function createFolder({ directory, now }: { directory: string; now: () => number }) {
  const files = createFiles(directory)
  const catalogue = createCatalogue()

  async function head(id: string): Promise<ImageRecord | undefined> {
    const record = await files.readRecord(id)
    return record && !hasExpired(record, now()) ? record : undefined
  }

  /** Takes over what other processes did to the folder; returns the ids whose folders hold no whole picture. */
  async function refresh(): Promise<string[]> {
    const found = await files.ids()
    for (const id of catalogue.ids()) if (!found.has(id)) catalogue.remove(id)
    // Another process may have replaced what has expired, so it is read again.
    for (const id of catalogue.expired(now())) catalogue.remove(id)
    const unknown = [...found].filter((id) => !catalogue.has(id))
    const damaged: string[] = []
    for (let start = 0; start < unknown.length; start += READ_AT_ONCE) {
      const ids = unknown.slice(start, start + READ_AT_ONCE)
      const records = await Promise.all(ids.map(files.readRecord))
      records.forEach((record, index) => {
        const id = ids[index]!
        // The folder's name is the id, even if the record says another one: the picture is found and removed by it.
        if (record) catalogue.add({ ...record, id }, sizeOnDisk(record, JSON.stringify(record)))
        else damaged.push(id)
      })
    }
    return damaged
  }

  /** Removes a picture in one step, also a damaged one. */
  async function discard(id: string): Promise<void> {
    const partial = await files.unpublish(id)
    catalogue.remove(id)
    await files.remove(partial)
  }

  /** Gives a finished folder its name; returns the picture that has it already, if that one counts. */
  async function publish(partial: string, id: string): Promise<ImageRecord | undefined> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await files.publish(partial, id)
        return undefined
      } catch (error) {
        if (!isTaken(error) || attempt === MAX_ATTEMPTS) throw error
      }
      const first = await head(id)
      if (first) return first
      // Expired or damaged: it must not keep its name from a good picture.
      await discard(id)
    }
  }

  return {
    files,
    catalogue,
    head,
    refresh,
    discard,

    async write({ record, png }: StoredImage, json: string): Promise<ImageRecord> {
      const partial = files.newPartial()
      try {
        await files.write(partial, { png, json })
        const first = await publish(partial, record.id)
        if (first) return first
      } finally {
        // There is nothing left after a success. Should this fail as well, the sweep removes it later.
        await files.remove(partial).catch(() => {})
      }
      catalogue.add(record, sizeOnDisk(record, json))
      await files.sync()
      return record
    },

    /** Removes what has expired and what is damaged; returns how many pictures had expired. */
    async sweep(): Promise<number> {
      const damaged = await refresh()
      const expired = catalogue.expired(now())
      for (const id of [...expired, ...damaged]) await discard(id)
      await files.removeOldPartials(now())
      return expired.length
    },
  }
}

function notStored(error: unknown): AppError {
  if (error instanceof AppError) return error
  const full = ['ENOSPC', 'EDQUOT'].includes(codeOf(error))
  const message = full
    ? 'The picture could not be stored: the disk of the image store is full. The operator has to give it more space, or lower IMAGES_MAX_BYTES below what it has.'
    : 'The picture could not be stored: the image store cannot be written to. The log of the server has the cause.'
  return new AppError('internal', message, { cause: error })
}
