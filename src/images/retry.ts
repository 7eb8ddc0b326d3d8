/** Tries again while a shared store of pictures is away. */
import { setTimeout as sleep } from 'node:timers/promises'

const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 2000

/**
 * Acts, and acts again after every failure that `isOutage` calls one, until `until` (`performance.now()`) or until the
 * signal aborts. A last attempt may begin just before `until`.
 * @throws the last failure.
 */
export async function retrying<T>(
  act: () => Promise<T>,
  options: {
    readonly until: number
    readonly signal: AbortSignal
    readonly isOutage: (error: unknown) => boolean
  },
): Promise<T> {
  const { until, signal, isOutage } = options
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    try {
      return await act()
    } catch (error) {
      // Jitter, so that the processes that lost the store do not come back to it all at once.
      const jittered = pauseMs * (0.5 + Math.random() / 2)
      if (!isOutage(error) || signal.aborted || performance.now() + jittered > until) throw error
      await sleep(jittered, undefined, { signal }).catch(() => {
        throw error
      })
    }
  }
}
