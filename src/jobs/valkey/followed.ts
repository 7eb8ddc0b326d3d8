/** The jobs that somebody in this process follows: their latest snapshots, kept up to date with what all servers do. */
import { hasEnded, type Job } from '../job.ts'
import { watchSnapshots } from '../watch.ts'
import type { Changes } from './book/book.ts'
import { createThrottle } from './throttle.ts'

/** Followers of queued jobs hear of a new place in the queue at most this often, in milliseconds. */
const OUTLOOK_MS = 1000

interface Entry {
  job: Job | undefined
  followers: number
  readonly listeners: Set<() => void>
  refreshing: boolean
  again: boolean
}

/** One follower of one job. */
export interface Following {
  /** The latest snapshot; there is one after `begin`. */
  readonly job: Job
  /** The first snapshot. The job may have changed since, before anybody listened, so it is read once more. */
  begin(job: Job): void
  /** See Waiter.watch. Ends once `isOver` says so: the follower then goes on at another server. */
  watch(signal?: AbortSignal): AsyncIterable<Job>
  stop(): void
}

export type FollowedJobs = ReturnType<typeof createFollowedJobs>

/**
 * Follows nothing yet.
 * @param options.read the job as the book has it; undefined where it has none. May throw while Valkey is away.
 */
export function createFollowedJobs(options: { readonly read: (id: string) => Promise<Job | undefined> }) {
  const { read } = options
  const entries = new Map<string, Entry>()

  function change(entry: Entry, job: Job | undefined): void {
    if (!job || (entry.job && hasEnded(entry.job))) return
    entry.job = job
    for (const listener of entry.listeners) listener()
  }

  /** Reads a job again; what changes during the read is read once more. */
  async function refresh(id: string): Promise<void> {
    const entry = entries.get(id)
    if (!entry) return
    entry.again = true
    if (entry.refreshing) return
    entry.refreshing = true
    while (entry.again) {
      entry.again = false
      // While Valkey is away nothing changes; `refreshAll` follows when it is back.
      change(entry, await read(id).catch(() => undefined))
    }
    entry.refreshing = false
  }

  /** Places in the queue move when anything does. */
  const outlook = createThrottle({
    everyMs: OUTLOOK_MS,
    async act() {
      for (const [id, { job }] of entries) if (job?.state === 'queued') void refresh(id)
    },
  })

  return {
    follow(id: string, { isOver }: { isOver: () => boolean }): Following {
      const fresh = { job: undefined, followers: 0, listeners: new Set<() => void>() }
      const entry = entries.get(id) ?? { ...fresh, refreshing: false, again: false }
      entries.set(id, entry)
      entry.followers += 1
      return {
        get job() {
          return entry.job as Job
        },
        begin(job) {
          if (!entry.job || hasEnded(job)) change(entry, job)
          if (!hasEnded(job)) void refresh(job.id)
        },
        watch: (signal) =>
          watchSnapshots({ current: () => entry.job, listeners: entry.listeners, isOver, signal }),
        stop() {
          entry.followers -= 1
          if (entry.followers === 0) entries.delete(id)
        },
      }
    },

    /** What a server, this one or another, changed. */
    hear({ changes, steps }: Pick<Changes, 'changes' | 'steps'>): void {
      for (const { id } of changes) if (entries.has(id)) void refresh(id)
      if (changes.length > 0) outlook.ask()
      for (const [id, step] of steps) {
        const entry = entries.get(id)
        // A read under way may have been answered before this step: it would take the step back.
        if (entry?.refreshing) void refresh(id)
        else if (entry?.job?.state === 'running') change(entry, { ...entry.job, progress: JSON.parse(step) })
      }
    },

    refresh,
    refreshAll(): void {
      for (const id of entries.keys()) void refresh(id)
    },
    /** Lets every `watch` see whether it is over. */
    wakeAll(): void {
      for (const { listeners } of entries.values()) for (const listener of listeners) listener()
    },
    stop: () => outlook.stop(),
  }
}
