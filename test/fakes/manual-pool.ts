/**
 * A pool whose replicas the test brings and takes away. Source of its behaviour: the interface Pool
 * (src/runtimes/pool/pool.ts), with one manual runtime for each replica. `learn` takes a replica out of `ready()` where
 * its run failed, and has the job run again, unless the test says otherwise.
 */
import type { Outcome, Pool, Replica } from '../../src/runtimes/pool/pool.ts'
import { createManualRuntime, type ManualRun } from './manual-runtime.ts'

export type ManualPool = ReturnType<typeof createManualPool>

export function createManualPool(options: { cap?: number; scalesFromZero?: boolean } = {}) {
  const { scalesFromZero = false, ...cap } = options
  const runtimes = new Map<string, ReturnType<typeof createManualRuntime>>()
  const listeners = new Set<() => void>()
  const learned: { id: string; outcome: Outcome }[] = []
  let replicas: readonly Replica[] = []

  function runtimeOf(id: string) {
    const runtime = runtimes.get(id) ?? createManualRuntime()
    runtimes.set(id, runtime)
    return runtime
  }

  /** From now on these are ready, with one slot each unless said otherwise. */
  function set(next: readonly (string | Replica)[]): void {
    replicas = next.map((each) => (typeof each === 'string' ? { id: each, slots: 1 } : each))
    for (const listener of [...listeners]) listener()
  }

  const pool: Pool = {
    ...cap,
    changes: true,
    scalesFromZero,
    ready: () => replicas,
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    runtimeOf,
    learn(id, outcome) {
      learned.push({ id, outcome })
      if (!outcome.error || outcome.error.code === 'invalid_request') return false
      set(replicas.filter((replica) => replica.id !== id))
      return true
    },
    trouble: () => undefined,
    report: () => [],
    async check() {},
    async close() {},
  }

  return {
    pool,
    set,
    learned,
    /** Runs of a replica, first the one that it was asked for first. */
    runsOf: (id: string): readonly ManualRun[] => runtimeOf(id).runs,
    /** Runs of all replicas that have begun. */
    count: () => [...runtimes.values()].reduce((sum, { runs }) => sum + runs.length, 0),
  }
}
