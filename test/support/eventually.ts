/** Longer than a machine that others use stands still, in milliseconds; who waits for less waits no longer. */
const TIMEOUT_MS = 60_000
/** Pause between two checks, in milliseconds. */
const PAUSE_MS = 10

/**
 * Tries until the check holds. The timeout only ends a hang: it throws the failure of a check that began after
 * `timeoutMs`, so a machine that stood still meanwhile gets one more check.
 */
export async function eventually(check: () => Promise<void> | void, timeoutMs = TIMEOUT_MS): Promise<void> {
  const until = performance.now() + timeoutMs
  for (;;) {
    const isLast = performance.now() > until
    try {
      return await check()
    } catch (error) {
      if (isLast) throw error
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
    }
  }
}

/**
 * Repeats an act that shows something only where it takes less than `ms`, until one did; answers what that one did.
 * For what has to happen before a timer of the system under test fires: a machine that stood still for longer shows
 * nothing, and the next attempt shows it.
 * @throws Error when no attempt of `attempts` was quick enough.
 */
export async function within<T>(ms: number, act: () => Promise<T>, attempts = 20): Promise<T> {
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const start = performance.now()
    const result = await act()
    if (performance.now() - start < ms) return result
  }
  throw new Error(`This machine is too slow: none of ${attempts} attempts took less than ${ms} ms.`)
}
