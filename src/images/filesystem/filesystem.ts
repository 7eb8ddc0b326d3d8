/** Pictures in a folder: they survive a restart, and processes may share the folder. files.ts says what lies in it. */
import { resolve } from 'node:path'
import { AppError } from '../../errors.ts'
import { retry } from '../../retry.ts'
import { createCatalogue, hasExpired } from '../catalogue.ts'
import { checkFits, checkImage, isImageId } from '../check.ts'
import type { ImageRecord, ImageStore, StoredImage } from '../image.ts'
import { codeOf, createFiles, isFull, isTaken, sizeOnDisk } from './files.ts'

/** Records read at once when a filled folder is opened. */
const READ_AT_ONCE = 32
/** Only other processes that replace the same expired picture at the same moment make more than two necessary. */
const MAX_ATTEMPTS = 5

/**
 * A store in `directory`, created when missing; folders get mode 0700, files 0600. `maxBytes` bounds the space on
 * disk, rounded up to blocks; to make room the oldest pictures go first, also where the disk is full before that. What
 * still cannot be stored is kept in memory and tried again for `retryForMs`. `now` gives milliseconds since 1970.
 * @throws Error when the folder cannot be created or written to; the message says what to do.
 */
export async function createFilesystemImages(options: {
  directory: string
  maxBytes: number
  now?: () => number
  retryForMs?: number
}): Promise<ImageStore> {
  const { maxBytes, now = Date.now, retryForMs = 15_000 } = options
  const directory = resolve(options.directory)
  const folder = createFolder({ directory, now })
  const { files, catalogue, head, refresh, discard, write, sweep } = folder
  const closing = new AbortController()
  let lastChange: Promise<unknown> = Promise.resolve()
  /** What the last picture that did not fit takes, in bytes; 0 after one that did. */
  let missing = 0

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
    const advice = isOfDeno(error)
      ? 'Deno was not allowed to write there: let IMAGES_DIR name a folder within one that its option --allow-write names ' +
        '(in the image: /data).'
      : `Let IMAGES_DIR name a folder that the user of this process (uid ${process.getuid?.()}) may write to, on a disk ` +
        'with space left.'
    const why = isOfDeno(error) ? 'NotCapable' : codeOf(error)
    throw new Error(`The image folder ${JSON.stringify(directory)} cannot be used (${why}). ${advice}`, {
      cause: error,
    })
  }

  return {
    async put(image) {
      checkImage(image)
      const { record } = image
      const json = JSON.stringify(record)
      const bytes = sizeOnDisk(record, json)
      checkFits({ bytes, maxBytes })
      const attempt = () =>
        alone(async () => {
          const stored = await head(record.id)
          if (stored) return stored
          await refresh()
          for (const id of catalogue.inTheWayOf({ bytes, maxBytes, now: now() })) await discard(id)
          return await inRoom({ bytes, files, catalogue, discard, now }, () => write(image, json))
        })
      try {
        const stored = await retry(attempt, {
          until: performance.now() + retryForMs,
          signal: closing.signal,
          isTransient: (error) => !(error instanceof AppError),
        })
        missing = 0
        return stored
      } catch (error) {
        if (isFull(error)) missing = bytes
        throw notStored(error)
      }
    },

    check: () => checkRoom({ directory, files, catalogue, missing }),

    async get(id) {
      const record = await head(id)
      if (!record) return undefined
      const png = await files.readPicture(id)
      return png && { record, png }
    },

    head,

    stream: ({ id }) => files.streamPicture(id),

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
      closing.abort()
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

type Folder = ReturnType<typeof createFolder>

/** Writes; while the disk is full, as much as the picture takes is removed first, oldest first. */
async function inRoom<T>(
  folder: Pick<Folder, 'files' | 'catalogue' | 'discard'> & { bytes: number; now: () => number },
  write: () => Promise<T>,
): Promise<T> {
  const { files, catalogue, discard, bytes, now } = folder
  for (;;) {
    try {
      return await write()
    } catch (error) {
      const oldest = catalogue.inTheWayOf({ bytes, maxBytes: catalogue.bytes(), now: now() })
      // Other data may fill the disk: pictures that would not make enough room stay.
      const enough = (await files.freeBytes()) + catalogue.bytes() >= bytes
      if (!isFull(error) || oldest.length === 0 || !enough) throw error
      for (const id of oldest) await discard(id)
    }
  }
}

/** @param missing what the last picture that did not fit takes, in bytes. @throws Error while none can be written. */
async function checkRoom(
  folder: Pick<Folder, 'files' | 'catalogue'> & { directory: string; missing: number },
): Promise<void> {
  const { directory, files, catalogue, missing } = folder
  try {
    await files.tryToWrite()
    const free = await files.freeBytes()
    if (free + catalogue.bytes() < missing)
      throw Object.assign(new Error(`${free} bytes free`), { code: 'ENOSPC' })
  } catch (error) {
    // A full disk takes pictures while older ones can make room.
    if (isFull(error) && catalogue.bytes() >= Math.max(missing, 1)) return
    throw new Error(`${directory} cannot be written to: ${codeOf(error)}`, { cause: error })
  }
}

/** True where not the system but Deno forbids it. */
function isOfDeno(error: unknown): boolean {
  return error instanceof Error && error.name === 'NotCapable'
}

function notStored(error: unknown): AppError {
  if (error instanceof AppError) return error
  const message = isFull(error)
    ? 'The picture could not be stored: the disk of the image store is full. The operator has to give it more space, or lower IMAGES_MAX_BYTES below what it has.'
    : 'The picture could not be stored: the image store cannot be written to. The log of the server has the cause.'
  return new AppError('internal', message, { cause: error })
}
