/**
 * How long a command is waited for. A server that has much to do is slow, and one that does not answer a PING either is
 * away: the two look alike to whoever waits for one command only.
 */
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'

/** Longest wait for one command of a server that answers PINGs, in milliseconds. */
export const PATIENCE_MS = 10_000
/** Part of the timeout after which a PING is sent; the rest of it is the time to answer that. */
const ASK_AFTER = 0.25

/** The server is there, and has not answered this command. */
export class Slow extends Error {}

/**
 * Waits for replies.
 * @param options.ping sends a PING, on a connection that is seldom busy; one at a time.
 * @param options.timeoutMs a server that was silent for this long, also to a PING, is away; milliseconds.
 * @param options.patienceMs longest wait for one command of a server that answers PINGs; milliseconds.
 */
export function createPatience(options: {
  readonly ping: () => Promise<unknown>
  readonly timeoutMs: number
  readonly patienceMs?: number
}) {
  const { ping, timeoutMs, patienceMs = PATIENCE_MS } = options
  const askAfterMs = timeoutMs * ASK_AFTER
  let pulse: Promise<boolean> | undefined
  /** When (`performance.now()`) any reply came. */
  let heardAt = Number.NEGATIVE_INFINITY

  /** Resolves with false after `ms` without any reply; with true when there still are some after the patience. */
  async function silence(ms: number): Promise<boolean> {
    const began = performance.now()
    for (;;) {
      const now = performance.now()
      const leftMs = Math.max(began, heardAt) + ms - now
      if (leftMs <= 0) return false
      if (now - began > patienceMs) return true
      await sleep(leftMs, undefined, { ref: false })
      // Where this process stood still, the answer is here and was not looked at yet.
      await turn()
    }
  }

  /** All who wait share one PING. */
  function isThere(): Promise<boolean> {
    if (pulse) return pulse
    const answer = ping().then(
      () => true,
      () => false,
    )
    pulse = Promise.race([answer, silence(timeoutMs - askAfterMs)]).finally(() => {
      pulse = undefined
    })
    return pulse
  }

  return {
    /** The reply. @throws Slow after the patience; Error when the server is away; what the reply itself fails with. */
    async answered<T>(reply: Promise<T>): Promise<T> {
      const began = performance.now()
      let timer: ReturnType<typeof setTimeout> | undefined
      let isOver = false
      const givenUp = new Promise<never>((_, reject) => {
        const lookLater = () => {
          timer = setTimeout(look, askAfterMs)
        }
        async function look(): Promise<void> {
          const there = await isThere()
          if (isOver) return
          if (!there) reject(new Error(`no answer for ${timeoutMs} ms, not to a PING either`))
          else if (performance.now() - began > patienceMs) reject(new Slow(`no answer for ${patienceMs} ms`))
          else lookLater()
        }
        lookLater()
      })
      try {
        const answer = await Promise.race([reply, givenUp])
        heardAt = performance.now()
        return answer
      } finally {
        isOver = true
        clearTimeout(timer)
      }
    },
  }
}
