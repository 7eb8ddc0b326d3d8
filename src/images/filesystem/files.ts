/**
 * The folders of a store's pictures on disk.
 *
 * A picture is a folder `{id}.image` that holds picture.png and record.json. It is written as `{uuid}.partial`, synced
 * to disk and renamed. Renaming a folder onto one that is not empty fails, so the first writer wins between processes
 * too, and a picture that has its name is whole. Removal goes the same way backwards. The store touches nothing without
 * these names.
 */
import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, opendir, readFile, rename, rm, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { isImageId, parseRecord } from '../check.ts'
import type { ImageRecord } from '../image.ts'

const PICTURE_FOLDER = /^([A-Za-z0-9_-]{1,64})\.image$/
const PARTIAL_FOLDER = /^[0-9a-f-]{36}\.partial$/
const PICTURE = 'picture.png'
const RECORD = 'record.json'
/** Far longer than any write takes, so that a sweep never removes what another process is writing. */
const PARTIAL_MAX_AGE_MS = 10 * 60_000
/** Most file systems allocate space in blocks of this size; each folder takes one as well. */
const BLOCK_BYTES = 4096
/** Names that are read in one go. */
const NAMES_AT_ONCE = 256
/** Pieces of a picture that is sent. */
const PIECE_BYTES = 64 * 1024

/** POSIX allows rename to fail with either code when the new name belongs to a folder that is not empty. */
const TAKEN = ['ENOTEMPTY', 'EEXIST']

export type Files = ReturnType<typeof createFiles>

/** What may be done with the folders of pictures in `directory`, an absolute path. Folders get mode 0700, files 0600. */
export function createFiles(directory: string) {
  const folderOf = (id: string) => join(directory, `${id}.image`)
  const newPartial = () => join(directory, `${randomUUID()}.partial`)

  return {
    newPartial,

    /** Creates the directory when it is missing. */
    async createDirectory(): Promise<void> {
      await mkdir(directory, { recursive: true, mode: 0o700 })
    },

    /** Does once what every write will do. */
    async tryToWrite(): Promise<void> {
      const partial = newPartial()
      try {
        await mkdir(partial, { mode: 0o700 })
        await writeSynced(join(partial, RECORD), '{}')
      } catch (error) {
        await rm(partial, { recursive: true, force: true }).catch(() => {})
        throw error
      }
      await rm(partial, { recursive: true })
    },

    /** Space that is left on the disk, in bytes. */
    async freeBytes(): Promise<number> {
      const { bavail, bsize } = await statfs(directory)
      return bavail * bsize
    },

    /** What is in the directory, read in portions: the id of a picture, whole or not, or a folder that is no picture yet. */
    async *entries(): AsyncGenerator<{ id: string } | { partial: string }> {
      for await (const entry of await opendir(directory, { bufferSize: NAMES_AT_ONCE })) {
        const { name } = entry
        const id = PICTURE_FOLDER.exec(name)?.[1]
        if (id !== undefined && entry.isDirectory()) yield { id }
        else if (PARTIAL_FOLDER.test(name)) yield { partial: join(directory, name) }
      }
    },

    /** The record of a whole picture, expired or not. */
    async readRecord(id: string): Promise<ImageRecord | undefined> {
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
    },

    readPicture: (id: string) => ifThere(() => readFile(join(folderOf(id), PICTURE))),

    /** A picture piece by piece. The file stays open until the end of the stream, even when the picture is removed. */
    streamPicture: (id: string) => ifThere(async () => streamOf(await open(join(folderOf(id), PICTURE)))),

    /** Writes a picture into a new folder. */
    async write(partial: string, { png, json }: { png: Uint8Array; json: string }): Promise<void> {
      await mkdir(partial, { mode: 0o700 })
      await writeSynced(join(partial, PICTURE), png)
      await writeSynced(join(partial, RECORD), json)
      await syncFolder(partial)
    },

    /** Gives a finished folder its name. @throws an error that `isTaken` knows when a folder has that name. */
    publish: (partial: string, id: string) => rename(partial, folderOf(id)),

    /** Takes the name from a folder, also from a damaged one; returns the folder's new name. */
    async unpublish(id: string): Promise<string> {
      const partial = newPartial()
      await ifThere(() => rename(folderOf(id), partial))
      return partial
    },

    async remove(partial: string): Promise<void> {
      await rm(partial, { recursive: true, force: true })
    },

    /** Removes what a write left that never ended. `now` in milliseconds since 1970. */
    async removeIfOld(partial: string, now: number): Promise<void> {
      const written = await ifThere(() => stat(partial))
      if (written && now - written.mtimeMs > PARTIAL_MAX_AGE_MS)
        await rm(partial, { recursive: true, force: true })
    },

    /** Makes the names in the directory survive a power failure. */
    sync: () => syncFolder(directory),
  }
}

/** What a picture takes on disk, in bytes. */
export function sizeOnDisk({ bytes }: ImageRecord, json: string): number {
  const blocks = 1 + Math.ceil(bytes / BLOCK_BYTES) + Math.ceil(Buffer.byteLength(json) / BLOCK_BYTES)
  return blocks * BLOCK_BYTES
}

/** True for the failure to rename a folder onto another one. */
export function isTaken(error: unknown): boolean {
  return TAKEN.includes(codeOf(error))
}

/** True where the disk, or what its user may take of it, is full. */
export function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(codeOf(error))
}

/** The code of a failed system call, or the error as text. */
export function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error)
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

/** Reads the file when it is asked for the next piece, and closes it. */
function streamOf(file: FileHandle): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { bytesRead, buffer } = await file.read(Buffer.allocUnsafeSlow(PIECE_BYTES), 0, PIECE_BYTES)
          if (bytesRead > 0) return controller.enqueue(buffer.subarray(0, bytesRead))
          await file.close()
          controller.close()
        } catch (error) {
          await file.close()
          throw error
        }
      },
      cancel: () => file.close(),
    },
    // No piece is read ahead.
    { highWaterMark: 0 },
  )
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
