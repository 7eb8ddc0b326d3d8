/** A fixed number of slots for work that must not run all at once; who waits longest gets the next free one. */

export interface Slots {
  /** Slots that nobody has. */
  readonly free: number
  /** Takers that wait. */
  readonly waiting: number
  /**
   * Resolves with the function that gives the slot back; call it once.
   * @throws the signal's reason once it aborts before there is a slot.
   */
  take(signal?: AbortSignal): Promise<() => void>
}

/** `size` slots, all free. */
export function createSlots(size: number): Slots {
  let free = size
  const waiting: (() => void)[] = []

  function release(): void {
    // A slot that somebody waits for changes hands: it is never free in between.
    const next = waiting.shift()
    if (next) next()
    else free += 1
  }

  return {
    get free() {
      return free
    },
    get waiting() {
      return waiting.length
    },
    async take(signal) {
      signal?.throwIfAborted()
      if (free > 0) {
        free -= 1
        return release
      }
      await new Promise<void>((resolve, reject) => {
        const granted = () => {
          signal?.removeEventListener('abort', left)
          resolve()
        }
        const left = () => {
          waiting.splice(waiting.indexOf(granted), 1)
          reject(signal?.reason)
        }
        waiting.push(granted)
        signal?.addEventListener('abort', left, { once: true })
      })
      return release
    },
  }
}
