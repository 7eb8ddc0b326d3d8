/** A job's snapshots, as they come, for whoever watches it. */
import { hasEnded, type Job } from './job.ts'

/**
 * The current snapshot at once, then the latest after every change, ending with the first that has ended. A slow reader
 * misses snapshots in between, never the last. Ends early when the signal aborts, or once `isOver` says so.
 * @param options.current the latest snapshot; undefined while there is none yet.
 * @param options.complete called with the last snapshot, once the job has ended: returns what is told of it.
 * @param options.listeners called by the owner of the job after every change, and when `isOver` turns true.
 */
export async function* watchSnapshots(options: {
  readonly current: () => Job | undefined
  readonly listeners: { add(listener: () => void): void; delete(listener: () => void): void }
  readonly isOver?: () => boolean
  readonly complete?: (ended: Job) => Promise<Job>
  readonly signal?: AbortSignal | undefined
}): AsyncGenerator<Job> {
  const { current, listeners, isOver, complete, signal } = options
  let wake = () => {}
  const listener = () => wake()
  listeners.add(listener)
  signal?.addEventListener('abort', listener)
  try {
    let seen: Job | undefined
    while (!signal?.aborted) {
      const job = current()
      if (job && job !== seen) {
        seen = job
        if (!hasEnded(job)) yield job
        else {
          yield complete ? await complete(job) : job
          return
        }
      } else if (isOver?.()) return
      else
        await new Promise<void>((resolve) => {
          wake = resolve
        })
    }
  } finally {
    listeners.delete(listener)
    signal?.removeEventListener('abort', listener)
  }
}
