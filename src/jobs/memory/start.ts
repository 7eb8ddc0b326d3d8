/** The start of a target that scales from zero: whether one goes on, and how long it takes. */
import type { Pool } from '../../runtimes/pool/pool.ts'

export type Start = ReturnType<typeof createStart>

/** No start was seen yet. */
export function createStart({ scalesFromZero }: Pick<Pool, 'scalesFromZero'>) {
  /** Milliseconds that the last start took, from the first job that waited for it. */
  let tookMs: number | undefined
  let since: number | undefined
  let isZero = false

  return {
    /** Jobs came, or replicas came or went. @param now.waiting jobs that wait; @param now.capacity of the ready replicas. */
    follow({ waiting, capacity }: { waiting: number; capacity: number }): void {
      if (!scalesFromZero) return
      isZero = capacity === 0
      // The first one that waits begins a start: those before it may have been cancelled.
      if (isZero && waiting > 0) since = waiting === 1 ? performance.now() : (since ?? performance.now())
      else {
        if (!isZero && since !== undefined) tookMs = performance.now() - since
        since = undefined
      }
    },
    /** True while jobs wait for the first replica. */
    isGoing: () => isZero,
    /** Milliseconds until there is a replica: 0 where there is one; undefined where no start was timed yet. */
    leftMs(): number | undefined {
      if (!isZero) return 0
      if (tookMs === undefined) return undefined
      return since === undefined ? tookMs : Math.max(0, since + tookMs - performance.now())
    },
  }
}
