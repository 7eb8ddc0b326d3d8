/** Bounds what one caller holds open at once in this process: requests that are not answered to their end, and WebSockets. */
import { AppError } from '../errors.ts'
import { type Asker, counterOf } from './rate-limit.ts'

export interface Held {
  /**
   * Counts one more until the returned function is called; calling it again does nothing.
   * @throws AppError `rate_limited` when the asker holds as many as it may.
   */
  hold(asker: Asker): () => void
}

/** At most `perCaller` at once for each caller, by network where callers cannot be told apart; 0 turns it off. */
export function createHeld({ perCaller }: { readonly perCaller: number }): Held {
  if (perCaller === 0) return { hold: () => () => {} }
  const counts = new Map<string, number>()
  return {
    hold(asker) {
      const counter = counterOf(asker)
      const count = counts.get(counter) ?? 0
      if (count >= perCaller)
        throw new AppError(
          'rate_limited',
          `You have ${perCaller} requests and WebSockets open, as many as one caller may (MAX_HELD_PER_CALLER); end one first.`,
        )
      counts.set(counter, count + 1)
      let isHeld = true
      return () => {
        if (!isHeld) return
        isHeld = false
        const left = (counts.get(counter) ?? 1) - 1
        if (left > 0) counts.set(counter, left)
        else counts.delete(counter)
      }
    },
  }
}
