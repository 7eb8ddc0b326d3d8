/**
 * A fixed number of slots for work that must not run all at once. Takers have their turns: whoever they take for gets a
 * slot in rotation, so that many takers of one do not hold up the single taker of another.
 */

export interface Slots {
  /** Slots that nobody has. */
  readonly free: number
  /** Takers that wait. */
  readonly waiting: number
  /** Takers that wait for one turn. */
  waitingOf(turn: string): number
  /**
   * Resolves with the function that gives the slot back; call it once. Turns rotate, and those of one turn stay in their
   * order. Without a `turn` all share one.
   * @throws the signal's reason once it aborts before there is a slot.
   */
  take(signal?: AbortSignal, turn?: string): Promise<() => void>
}

/** `size` slots, all free. */
export function createSlots(size: number): Slots {
  let free = size
  /** Who waits, by turn: the first turn gets the next slot, and then goes to the end. None is empty. */
  const turns = new Map<string, (() => void)[]>()

  function release(from: string): void {
    const more = turns.get(from)
    // Whoever just had a slot lets all others go first, also those who came after its next taker.
    if (more) {
      turns.delete(from)
      turns.set(from, more)
    }
    // A slot that somebody waits for changes hands: it is never free in between.
    for (const [turn, waiting] of turns) {
      const next = waiting.shift()
      turns.delete(turn)
      if (waiting.length > 0) turns.set(turn, waiting)
      next?.()
      return
    }
    free += 1
  }

  function leave(turn: string, granted: () => void): void {
    const waiting = turns.get(turn) ?? []
    waiting.splice(waiting.indexOf(granted), 1)
    if (waiting.length === 0) turns.delete(turn)
  }

  return {
    get free() {
      return free
    },
    get waiting() {
      let count = 0
      for (const { length } of turns.values()) count += length
      return count
    },
    waitingOf: (turn) => turns.get(turn)?.length ?? 0,
    async take(signal, turn = '') {
      signal?.throwIfAborted()
      if (free > 0) {
        free -= 1
        return () => release(turn)
      }
      await new Promise<void>((resolve, reject) => {
        const granted = () => {
          signal?.removeEventListener('abort', left)
          resolve()
        }
        const left = () => {
          leave(turn, granted)
          reject(signal?.reason)
        }
        const waiting = turns.get(turn)
        if (waiting) waiting.push(granted)
        else turns.set(turn, [granted])
        signal?.addEventListener('abort', left, { once: true })
      })
      return () => release(turn)
    },
  }
}
