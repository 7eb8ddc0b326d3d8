/** The latest of many values, now and then. */

/**
 * Acts on the first value at once, then on the latest at most every `everyMs` milliseconds, one act at a time; a value
 * that another one overtook is never acted on.
 */
export function createThrottle<T>(options: {
  readonly everyMs: number
  readonly act: (value: T) => Promise<void>
}) {
  const { everyMs, act } = options
  let pending: { value: T } | undefined
  let busy = false
  let stopped = false

  async function work(): Promise<void> {
    if (busy) return
    busy = true
    while (pending && !stopped) {
      const { value } = pending
      pending = undefined
      await act(value)
      await new Promise((resolve) => setTimeout(resolve, everyMs).unref())
    }
    busy = false
  }

  return {
    push(value: T): void {
      pending = { value }
      void work()
    },
    /** Forgets the pending value. */
    stop(): void {
      stopped = true
    },
  }
}
