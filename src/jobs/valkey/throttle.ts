/** Something that is due now and then, but not each time that it is asked for. */
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'

/**
 * Acts at once when asked, then again at most every `everyMs()` milliseconds while asked; one act at a time. What is asked
 * for in one go is one act.
 */
export function createThrottle(options: {
  readonly everyMs: () => number
  readonly act: () => Promise<void>
}) {
  const { everyMs, act } = options
  let due = false
  let busy = false
  let stopped = false

  async function work(): Promise<void> {
    if (busy) return
    busy = true
    await turn()
    while (due && !stopped) {
      due = false
      await act()
      await sleep(everyMs(), undefined, { ref: false })
    }
    busy = false
  }

  return {
    ask(): void {
      due = true
      void work()
    },
    /** Forgets what is still due. */
    stop(): void {
      stopped = true
    },
  }
}
