/** The jobs that somebody in this process follows: their latest snapshots, kept up to date with what all servers do. */
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { hasEnded, type Job } from '../job.ts'
import { watchSnapshots } from '../watch.ts'
import type { Changes } from './book/book.ts'
import { createThrottle } from './throttle.ts'

/** Followers of queued jobs hear of a new place in the queue at most this often, in milliseconds. */
const OUTLOOK_MS = 1000
/** Jobs that one read takes at most: Valkey serves nobody else meanwhile. */
const READ_AT_ONCE = 200
/** Pause after a read that failed, in milliseconds. */
const RETRY_MS = 1000
/** A predicted finish that moves by less is no news, in milliseconds. */
const SAME_MS = 500

interface Entry {
  /** Absent until the book answered whoever follows. */
  job: Job | undefined
  followers: number
  readonly listeners: Set<() => void>
  /** What was heard of the job while there was no snapshot: its state, or that something may have been missed. */
  heard?: Job['state'] | 'unknown'
}

/** One follower of one job. */
export interface Following {
  /** The latest snapshot; there is one after `begin`. */
  readonly job: Job
  /**
   * The first snapshot.
   * @param options.missed true where the job may have changed since, before anybody listened: it is read once more.
   */
  begin(job: Job, options?: { missed?: boolean }): void
  /** See Waiter.watch. Ends once `isOver` says so: the follower then goes on at another server. */
  watch(signal?: AbortSignal): AsyncIterable<Job>
  stop(): void
}

export type FollowedJobs = ReturnType<typeof createFollowedJobs>

/**
 * Follows nothing yet.
 * @param options.read the jobs as the book has them; those that it has not are absent. Never asked for more than
 * READ_AT_ONCE, nor for more before it has answered. May throw while Valkey is away.
 */
export function createFollowedJobs(options: {
  readonly read: (ids: readonly string[]) => Promise<ReadonlyMap<string, Job>>
}) {
  const { read } = options
  const entries = new Map<string, Entry>()
  /** To be read: what changed first, then what may have changed. */
  const changed = new Set<string>()
  const doubtful = new Set<string>()
  let reading: ReadonlySet<string> = new Set()
  let isWorking = false
  let isStopped = false
  let wake = () => {}

  function change(entry: Entry, job: Job): void {
    if (entry.job && (hasEnded(entry.job) || isSame(entry.job, job))) return
    entry.job = job
    for (const listener of entry.listeners) listener()
  }

  function take(): ReadonlySet<string> {
    const ids = new Set<string>()
    for (const waiting of [changed, doubtful])
      for (const id of waiting) {
        if (ids.size === READ_AT_ONCE) return ids
        waiting.delete(id)
        const job = entries.get(id)?.job
        if (job && !hasEnded(job)) ids.add(id)
      }
    return ids
  }

  /** Reads until nothing is left to read. */
  async function work(): Promise<void> {
    if (isWorking) return
    isWorking = true
    // What is heard in one go is read in one go.
    await turn()
    for (reading = take(); reading.size > 0 && !isStopped; reading = take()) {
      try {
        for (const [id, job] of await read([...reading])) {
          const entry = entries.get(id)
          if (entry) change(entry, job)
        }
      } catch {
        for (const id of reading) changed.add(id)
        const woken = new Promise<void>((resolve) => {
          wake = resolve
        })
        await Promise.race([woken, sleep(RETRY_MS, undefined, { ref: false })])
      }
    }
    isWorking = false
  }

  function refresh(id: string): void {
    changed.add(id)
    void work()
  }

  /** Places in the queue move when anything does. */
  const outlook = createThrottle({
    everyMs: () => OUTLOOK_MS,
    async act() {
      for (const [id, { job }] of entries) if (job?.state === 'queued') doubtful.add(id)
      void work()
    },
  })

  function hearState(id: string, state: Job['state']): void {
    const entry = entries.get(id)
    if (!entry) return
    if (!entry.job) entry.heard = state
    // A job is queued once, at its beginning.
    else if (state !== 'queued' && state !== entry.job.state) refresh(id)
  }

  return {
    follow(id: string, { isOver }: { isOver: () => boolean }): Following {
      const entry: Entry = entries.get(id) ?? { job: undefined, followers: 0, listeners: new Set() }
      entries.set(id, entry)
      entry.followers += 1
      return {
        get job() {
          return entry.job as Job
        },
        begin(job, { missed = false } = {}) {
          if (!entry.job || hasEnded(job)) change(entry, job)
          const { heard = job.state } = entry
          delete entry.heard
          if (missed || heard !== job.state) refresh(id)
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
      for (const { id, state } of changes) hearState(id, state)
      if (changes.length > 0) outlook.ask()
      for (const [id, step] of steps) {
        const entry = entries.get(id)
        // A read under way may have been answered before this step: it would take the step back.
        if (reading.has(id)) refresh(id)
        else if (entry?.job?.state === 'running') change(entry, { ...entry.job, progress: JSON.parse(step) })
      }
    },

    refresh,
    /** Anything may have happened: all are read again, so many at a time. */
    refreshAll(): void {
      for (const [id, entry] of entries) {
        if (entry.job) doubtful.add(id)
        else entry.heard = 'unknown'
      }
      wake()
      void work()
    },
    /** Lets every `watch` see whether it is over. */
    wakeAll(): void {
      for (const { listeners } of entries.values()) for (const listener of listeners) listener()
    },
    stop(): void {
      isStopped = true
      outlook.stop()
    },
  }
}

/** True where a follower would learn nothing. */
function isSame(a: Job, b: Job): boolean {
  return (
    a.state === b.state &&
    a.position === b.position &&
    a.starting === b.starting &&
    a.deadlineAt === b.deadlineAt &&
    a.progress?.step === b.progress?.step &&
    a.progress?.steps === b.progress?.steps &&
    (a.expectedAt === undefined) === (b.expectedAt === undefined) &&
    Math.abs((a.expectedAt ?? 0) - (b.expectedAt ?? 0)) < SAME_MS
  )
}
