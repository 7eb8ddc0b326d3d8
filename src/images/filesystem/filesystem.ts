/** Pictures in a folder: they survive a restart, and processes may share the folder. files.ts says what lies in it. */
import { resolve } from 'node:path'
import { AppError } from '../../errors.ts'
import { retry } from '../../retry.ts'
import { checkFits, checkImage, checkShare, isImageId } from '../check.ts'
import type { ImageStore } from '../image.ts'
import { createReserve } from '../reserve.ts'
import { codeOf, isFull, sizeOnDisk } from './files.ts'
import { createFolder, type Folder } from './folder.ts'

/**
 * A store in `directory`, created when missing; folders get mode 0700, files 0600. `maxBytes` bounds the space on
 * disk, rounded up to blocks; `makeRoom` of the catalogue says what goes first to make room, also where the disk is full
 * before that. What still cannot be stored is kept in memory and tried again for `retryForMs`. `now` gives milliseconds
 * since 1970.
 *
 * A filled folder is read in the background: `get`, `head` and `put` work at once, the first `list` waits for it. With
 * other processes on the same folder, `get` and `head` see their pictures at once; `list` and the bound know what they did
 * until the last `sweep`. So the folder may exceed `maxBytes` by what the others stored since then, or by what is stored
 * before it has been read; the sweep makes up for that.
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
  const closing = new AbortController()
  const folder = createFolder({ directory, now, closing: closing.signal })
  const { files, catalogue, alone, head, forget, discard, write } = folder
  const reserve = createReserve()
  let isRead = false

  async function sweep(): Promise<number> {
    const removed = await folder.sweep(maxBytes)
    isRead = true
    return removed
  }

  try {
    await files.createDirectory()
    await files.tryToWrite().catch(async (error) => {
      if (!isFull(error)) throw error
      // A disk that is full of expired pictures is no reason not to start.
      await sweep()
      await files.tryToWrite()
    })
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
  // Should it fail, the next sweep reads the folder and says why it cannot.
  const reading = isRead ? undefined : sweep().catch(() => {})

  return {
    async put(image) {
      checkImage(image)
      const { record } = image
      const json = JSON.stringify(record)
      const bytes = sizeOnDisk(record, json)
      checkFits({ bytes, maxBytes })
      reserve.note(bytes)
      const attempt = () =>
        alone(async () => {
          const stored = await head(record.id)
          if (stored) return stored
          // An expired picture with this id counts no more.
          if (catalogue.has(record.id)) await discard(record.id)
          const { owner } = record
          const { ids, fits } = catalogue.makeRoom({ owner, bytes, maxBytes, now: now() })
          for (const id of ids) await discard(id)
          checkShare({ bytes, fits })
          return await inRoom({ owner, bytes, folder, now }, () => write(image, json))
        })
      try {
        return await retry(attempt, {
          until: performance.now() + retryForMs,
          signal: closing.signal,
          isTransient: (error) => !(error instanceof AppError),
        })
      } catch (error) {
        throw notStored(error)
      }
    },

    check: () => checkRoom({ directory, folder, bytes: reserve.bytes() }),

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
      if (!isRead) {
        await folder.scan()
        isRead = true
      }
      for (;;) {
        const { ids, ...more } = catalogue.page({ owner, limit, after, now: now() })
        const found = await Promise.all(ids.map(head))
        const records = found.filter((record) => record !== undefined)
        if (records.length === ids.length) return { records, ...more }
        // Another process has removed them, or they are damaged.
        for (const [place, id] of ids.entries()) if (!found[place]) forget(id)
      }
    },

    sweep,

    usage: () => ({ bytes: catalogue.bytes(), maxBytes, removedEarly: catalogue.removedEarly() }),

    async close() {
      closing.abort()
      await reading
      await folder.settled()
    },
  }
}

/** Writes; while the disk is full, pictures are removed as if the bound were what they take. */
async function inRoom<T>(
  { owner, bytes, folder, now }: { owner: string; bytes: number; folder: Folder; now: () => number },
  write: () => Promise<T>,
): Promise<T> {
  const { files, catalogue, discard } = folder
  for (;;) {
    try {
      return await write()
    } catch (error) {
      if (!isFull(error)) throw error
      // Other data may fill the disk: pictures that would not make enough room stay.
      if ((await files.freeBytes()) + catalogue.bytes() < bytes) throw error
      const { ids } = catalogue.makeRoom({ owner, bytes, maxBytes: catalogue.bytes(), now: now() })
      if (ids.length === 0) throw error
      for (const id of ids) await discard(id)
    }
  }
}

/** @param bytes room that a picture needs. @throws Error while none can be written. */
async function checkRoom(options: { directory: string; folder: Folder; bytes: number }): Promise<void> {
  const { directory, folder, bytes } = options
  const { files, catalogue } = folder
  let free = 0
  try {
    await files.tryToWrite()
    free = await files.freeBytes()
    if (free >= bytes) return
  } catch (error) {
    if (!isFull(error))
      throw new Error(`${directory} cannot be written to: ${codeOf(error)}`, { cause: error })
  }
  // A full disk takes pictures while older ones can make room; somebody else may have removed them.
  await folder.scan()
  if (catalogue.bytes() > 0 && free + catalogue.bytes() >= bytes) return
  const cause = Object.assign(new Error(`${free} bytes free`), { code: 'ENOSPC' })
  throw new Error(`${directory} cannot be written to: ENOSPC`, { cause })
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
