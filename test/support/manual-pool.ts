/**
 * Replicas whose every run, and every coming and going, the test decides. Source of its behaviour: the Pool interface. A
 * run that fails with `unavailable` ejects its replica and goes elsewhere; any other failure is the caller's.
 */
import { AppError } from '../../src/errors.ts'
import type { Pool, Replica } from '../../src/runtimes/pool/pool.ts'
import type { Runtime } from '../../src/runtimes/runtime.ts'
import { createManualRuntime, type ManualRun } from '../fakes/manual-runtime.ts'

export const unavailable = () => new AppError('runtime_unavailable', 'The connection was refused.')

/** One run on a replica. */
export interface PlacedRun extends ManualRun {
  readonly replica: string
}

/** Slots by replica. */
export type Seen = Readonly<Record<string, number>>

export interface ManualPool extends Pool {
  /** From now on these are found, and work. Those that were ejected are back. */
  set(seen: Seen): void
}

/** All runs of all replicas, whichever server's. */
export function createReplicaWorld() {
  const runs: PlacedRun[] = []
  const open = new Map<string, Set<PlacedRun>>()
  const peaks = new Map<string, number>()
  const runtimes = new Map<string, Runtime>()

  function runtimeOf(replica: string): Runtime {
    const known = runtimes.get(replica)
    if (known) return known
    const manual = createManualRuntime()
    const now = open.get(replica) ?? new Set()
    open.set(replica, now)
    const runtime: Runtime = {
      ...manual,
      async generate(request, options) {
        const picture = manual.generate(request, options)
        const run = { ...(manual.runs.at(-1) as ManualRun), replica }
        runs.push(run)
        now.add(run)
        peaks.set(replica, Math.max(peaks.get(replica) ?? 0, now.size))
        try {
          return await picture
        } finally {
          now.delete(run)
        }
      },
    }
    runtimes.set(replica, runtime)
    return runtime
  }

  return {
    runs: runs as readonly PlacedRun[],
    /** What a replica draws now, and the most that it drew at once. */
    open: (replica: string) => [...(open.get(replica) ?? [])],
    allOpen: () => [...open.values()].flatMap((now) => [...now]),
    peak: (replica: string) => peaks.get(replica) ?? 0,

    /** What one server sees of it. */
    pool({ seen, cap }: { seen: Seen; cap?: number | undefined }): ManualPool {
      let found = new Map<string, Replica>()
      const ejected = new Set<string>()
      const listeners = new Set<() => void>()
      const tell = () => {
        for (const listener of [...listeners]) listener()
      }
      const pool = {
        ...(cap === undefined ? {} : { cap }),
        changes: true,
        scalesFromZero: true,
        ready: () => [...found.values()].filter(({ id }) => !ejected.has(id)),
        onChange(listener: () => void) {
          listeners.add(listener)
          return () => void listeners.delete(listener)
        },
        runtimeOf,
        learn(id: string, { error, stuck = false }: { error?: AppError; stuck?: boolean }) {
          const isBroken = stuck || error?.code === 'runtime_unavailable'
          if (isBroken && found.has(id)) {
            ejected.add(id)
            tell()
          }
          return isBroken
        },
        trouble: () => undefined,
        report: () => [],
        async check() {},
        async close() {},
        set(seen: Seen) {
          found = new Map(Object.entries(seen).map(([id, slots]) => [id, { id, slots }]))
          ejected.clear()
          tell()
        },
      }
      pool.set(seen)
      return pool
    },
  }
}
