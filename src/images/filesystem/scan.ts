/** Compares the index of a folder with what is in it, a little at a time. */
import { setImmediate as otherWork } from 'node:timers/promises'
import type { Catalogue } from '../catalogue.ts'
import type { ImageRecord } from '../image.ts'
import type { Files } from './files.ts'

/** Records that are read at once. */
const READ_AT_ONCE = 32
/** Entries of the index that are looked at in one go. */
const SLICE = 1000

/** What a scan found besides pictures. */
export interface Found {
  /** Ids whose folders hold no whole picture. */
  readonly damaged: string[]
  /** Paths of folders that are being written, or were. */
  readonly partials: string[]
}

/** `add` takes a picture into the catalogue. A scan ends early once `closing` is aborted. */
export function createScan(options: {
  files: Files
  catalogue: Catalogue
  add: (id: string, record: ImageRecord) => void
  closing: AbortSignal
}) {
  const { files, catalogue, add, closing } = options
  let running: Promise<Found> | undefined
  /** What this process changed during a scan: about these the scan knows no better. */
  let touched: Set<string> | undefined

  async function namesIn(result: Found): Promise<Set<string>> {
    const ids = new Set<string>()
    for await (const entry of files.entries()) {
      if ('id' in entry) ids.add(entry.id)
      else result.partials.push(entry.partial)
    }
    return ids
  }

  async function read(ids: readonly string[], result: Found): Promise<void> {
    const records = await Promise.all(ids.map(files.readRecord))
    for (const [place, id] of ids.entries()) {
      const record = records[place]
      if (touched?.has(id)) continue
      if (record) add(id, record)
      else result.damaged.push(id)
    }
  }

  async function compare(): Promise<Found> {
    touched = new Set()
    const result: Found = { damaged: [], partials: [] }
    const names = await namesIn(result)
    let looked = 0
    for (const id of catalogue.ids()) {
      if (!names.has(id) && !touched.has(id)) catalogue.remove(id)
      if (++looked % SLICE === 0) await otherWork()
    }
    let unknown: string[] = []
    for (const id of names) {
      if (closing.aborted) return result
      if (!catalogue.has(id)) unknown.push(id)
      if (unknown.length === READ_AT_ONCE) {
        await read(unknown, result)
        unknown = []
      }
      if (++looked % SLICE === 0) await otherWork()
    }
    await read(unknown, result)
    return result
  }

  return {
    /** Makes the index what is in the folder. One at a time: who asks meanwhile gets its result. */
    run(): Promise<Found> {
      running ??= compare().finally(() => {
        running = undefined
        touched = undefined
      })
      return running
    },

    /** To call with every change of this process. */
    touch: (id: string) => void touched?.add(id),
  }
}
