/** Once: which job a submission is a retry of, or may share. */
import { type Identity, isAnonymous } from '../../auth/caller.ts'
import { hasEnded } from '../job.ts'
import type { Entry } from './entry.ts'

/** What a submission is looked up by. The caller is part of both names. */
export interface Lookup {
  readonly key: string | undefined
  readonly request: string
  /** The caller gave a seed, so that an identical request means the same picture. */
  readonly seeded: boolean
  readonly caller: Identity
}

/** An index of no jobs yet. */
export function createTwins() {
  const byKey = new Map<string, Entry>()
  const byRequest = new Map<string, Entry>()

  return {
    /** The job to join; `conflict` where another request came under a key that is taken; undefined: none. */
    find({ key, request, seeded, caller }: Lookup): { entry: Entry; conflict: boolean } | undefined {
      // Strangers share nothing.
      if (isAnonymous(caller)) return undefined
      const same = key === undefined ? undefined : joinable(byKey.get(key))
      if (same) return { entry: same, conflict: same.request !== request }
      const twin = joinable(byRequest.get(request))
      if (!twin) return undefined
      const shared = twin.life.endsWith('/orphan') || (key === undefined && seeded)
      return shared ? { entry: twin, conflict: false } : undefined
    },

    /** From now on this is the latest job of its request. */
    add(entry: Entry): void {
      byRequest.set(entry.request, entry)
    },

    /** From now on a retry under this key finds the job. */
    remember(entry: Entry, key: string | undefined): void {
      if (key === undefined) return
      entry.keys.add(key)
      byKey.set(key, entry)
    },

    /** Forgets under what a job could be found, where no other took its place. */
    release(entry: Entry): void {
      for (const key of entry.keys) if (byKey.get(key) === entry) byKey.delete(key)
      if (byRequest.get(entry.request) === entry) byRequest.delete(entry.request)
    },
  }
}

/** A job that may be joined: not one that ended without a picture. */
function joinable(entry: Entry | undefined): Entry | undefined {
  return entry && (!hasEnded(entry.job) || entry.job.state === 'succeeded') ? entry : undefined
}
