/** The jobs that have ended, as long as they are remembered. */
import { createHash } from 'node:crypto'
import { Sorted } from '../../images/sorted.ts'
import { type Entry, timeOf } from './entry.ts'

interface Holder {
  /** Breaks ties as the book in Valkey does: by the hash that names a caller's line there. */
  readonly line: string
  /** The one that ended first comes first; never empty. */
  readonly jobs: Set<Entry>
  count: number
}

/**
 * Remembers nothing yet. Ended jobs are remembered for `ttlSeconds`, but never more than `atMost`: beyond that the oldest
 * of whoever has most goes. Adding one costs O(log n) for each that it adds or forgets, with n callers.
 * @param options.forget called with a job that is forgotten.
 */
export function createRemembered(options: {
  readonly ttlSeconds: number
  readonly atMost: number
  readonly forget: (entry: Entry) => void
}) {
  const { ttlSeconds, atMost, forget } = options
  /** The one that ended first comes first. */
  const ended = new Set<Entry>()
  const holders = new Map<string, Holder>()
  const byCount = new Sorted<Holder>(
    (a, b) => a.count - b.count || (a.line < b.line ? -1 : +(a.line > b.line)),
  )

  function weigh(holder: Holder, more: 1 | -1): void {
    if (holder.count > 0) byCount.remove(holder)
    holder.count += more
    if (holder.count > 0) byCount.add(holder)
  }

  function drop(entry: Entry): void {
    const { owner } = entry.job
    const holder = holders.get(owner)
    ended.delete(entry)
    if (holder?.jobs.delete(entry)) weigh(holder, -1)
    if (holder?.count === 0) holders.delete(owner)
    forget(entry)
  }

  function dropExpired(): void {
    for (const oldest of ended) {
      if (timeOf(oldest) - (oldest.job.endedAt as number) <= ttlSeconds * 1000) break
      drop(oldest)
    }
  }

  return {
    add(entry: Entry): void {
      const { owner } = entry.job
      const holder = holders.get(owner) ?? { line: lineOf(owner), jobs: new Set(), count: 0 }
      holders.set(owner, holder)
      ended.add(entry)
      holder.jobs.add(entry)
      weigh(holder, 1)
      dropExpired()
      if (ended.size <= atMost) return
      const [heaviest] = byCount.descending()
      const [oldest] = heaviest?.jobs ?? []
      if (oldest) drop(oldest)
    },
  }
}

/** As `lineOf` in the book's order.lua. */
function lineOf(owner: string): string {
  return createHash('sha1').update(owner).digest('hex').slice(0, 20)
}
