/** The jobs that have ended, as long as they are remembered. */
import { type Entry, timeOf } from './entry.ts'

/** Ended jobs are remembered as long as their pictures, but never more than this many: about 1 KiB each. */
const AT_MOST = 20_000

/** Remembers nothing yet. @param options.forget called with a job whose time is over. */
export function createRemembered(options: {
  readonly ttlSeconds: number
  readonly forget: (entry: Entry) => void
}) {
  const { ttlSeconds, forget } = options
  /** The one that ended first comes first. */
  const ended = new Set<Entry>()

  return {
    add(entry: Entry): void {
      ended.add(entry)
      for (const oldest of ended) {
        const isOld = timeOf(oldest) - (oldest.job.endedAt as number) > ttlSeconds * 1000
        if (!isOld && ended.size <= AT_MOST) break
        ended.delete(oldest)
        forget(oldest)
      }
    },
  }
}
