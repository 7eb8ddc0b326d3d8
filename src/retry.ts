/** Retries what fails for a while only. */
import { setTimeout as sleep } from 'node:timers/promises'

export interface RetryOptions {
  /** Tells a failure that passes from one that stays. */
  readonly isTransient: (error: unknown) => boolean
  /** Time of `performance.now()` from which a failure is final. The last attempt may begin just before it. */
  readonly until: number
  /** Once it aborts, no further attempt begins. */
  readonly signal: AbortSignal
  /** The pause before the second attempt, in milliseconds. Each later pause is twice as long. */
  readonly firstPauseMs?: number
  readonly longestPauseMs?: number
}

/**
 * Calls `attempt` until it succeeds.
 * @throws the last failure.
 */
export async function retry<T>(
  attempt: () => Promise<T>,
  { isTransient, until, signal, firstPauseMs = 100, longestPauseMs = 2000 }: RetryOptions,
): Promise<T> {
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
    try {
      return await attempt()
    } catch (error) {
      // Jitter, so that processes that lost the same server do not all come back to it at once.
      const jittered = pauseMs * (0.5 + Math.random() / 2)
      if (!isTransient(error) || signal.aborted || performance.now() + jittered > until) throw error
      await sleep(jittered, undefined, { signal }).catch(() => {
        throw error
      })
    }
  }
}
