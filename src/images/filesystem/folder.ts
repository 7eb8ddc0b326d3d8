/**
 * The pictures of a folder with an index of them in memory, so that no picture costs a look at all the others.
 *
 * Every change of this process shows in the index at once. `scan` takes over what other processes did, and corrects
 * what went wrong: it reads the names in the folder, and the records of the pictures that the index does not know.
 */
import { createCatalogue, hasExpired } from '../catalogue.ts'
import type { ImageRecord, StoredImage } from '../image.ts'
import { createFiles, isTaken, sizeOnDisk } from './files.ts'
import { createScan } from './scan.ts'

/** Pictures that a sweep removes at once. */
const AT_ONCE = 32
/** Only other processes that replace the same expired picture at the same moment make more than two necessary. */
const MAX_ATTEMPTS = 5

export type Folder = ReturnType<typeof createFolder>

/** `directory` is an absolute path; `now` gives milliseconds since 1970; scans and sweeps end early once `closing` is aborted. */
export function createFolder(options: { directory: string; now: () => number; closing: AbortSignal }) {
  const { directory, now, closing } = options
  const files = createFiles(directory)
  const catalogue = createCatalogue()
  const scan = createScan({ files, catalogue, add: index, closing })
  let lastChange: Promise<unknown> = Promise.resolve()

  /** One change at a time, so that the bound holds and an expired picture is replaced once. */
  function alone<T>(change: () => Promise<T>): Promise<T> {
    const result = lastChange.then(change)
    lastChange = result.catch(() => {})
    return result
  }

  async function head(id: string): Promise<ImageRecord | undefined> {
    const record = await files.readRecord(id)
    return record && !hasExpired(record, now()) ? record : undefined
  }

  /** The folder's name is the id, even if the record says another one: the picture is found and removed by it. */
  function index(id: string, record: ImageRecord): void {
    scan.touch(id)
    catalogue.add({ ...record, id }, sizeOnDisk(record, JSON.stringify(record)))
  }

  function forget(id: string): void {
    scan.touch(id)
    catalogue.remove(id)
  }

  /** Removes a picture in one step, also a damaged one. */
  async function discard(id: string): Promise<void> {
    const partial = await files.unpublish(id)
    forget(id)
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

  /** Removes a picture that the index or a scan takes for expired or damaged; true when an expired one went. */
  async function removeUnlessValid(id: string): Promise<boolean> {
    const record = await files.readRecord(id)
    if (record && !hasExpired(record, now())) {
      // Another process has put a new one there.
      index(id, record)
      return false
    }
    await discard(id)
    return record !== undefined
  }

  return {
    files,
    catalogue,
    alone,
    head,
    forget,
    discard,
    scan: scan.run,

    async write({ record, png }: StoredImage, json: string): Promise<ImageRecord> {
      const partial = files.newPartial()
      try {
        await files.write(partial, { png, json })
        const first = await publish(partial, record.id)
        index(record.id, first ?? record)
        if (first) return first
      } finally {
        // There is nothing left after a success. Should this fail as well, the sweep removes it later.
        await files.remove(partial).catch(() => {})
      }
      await files.sync()
      return record
    },

    /** Removes what has expired, what is damaged, and what exceeds `maxBytes`; returns how many had expired. */
    async sweep(maxBytes: number): Promise<number> {
      const { damaged, partials } = await scan.run()
      let removed = 0
      // A few at a time, so that pictures are stored in between.
      const removeAll = (ids: string[]) =>
        alone(async () => {
          removed += (await Promise.all(ids.map(removeUnlessValid))).filter(Boolean).length
        })
      for (;;) {
        const ids = closing.aborted ? [] : catalogue.expired(now(), AT_ONCE)
        if (ids.length === 0) break
        await removeAll(ids)
      }
      for (let start = 0; start < damaged.length && !closing.aborted; start += AT_ONCE)
        await removeAll(damaged.slice(start, start + AT_ONCE))
      for (const partial of partials) await files.removeIfOld(partial, now())
      for (let surplus = true; surplus; )
        await alone(async () => {
          const { ids, fits } = catalogue.makeRoom({
            owner: '',
            bytes: 0,
            maxBytes,
            now: now(),
            limit: AT_ONCE,
          })
          for (const id of ids) await discard(id)
          surplus = !fits
        })
      return removed
    },

    /** Resolves once nothing changes any more, if nothing is asked for. */
    settled: () => lastChange,
  }
}
