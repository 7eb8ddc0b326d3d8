/** Bounds how much strangers can write into the log: what is refused before its caller is known costs them nothing. */
import { setTimeout } from 'node:timers'
import type { Logger } from '../telemetry/log.ts'

/** Lines per minute at info. */
const MAX_LINES = 60
const WINDOW_MS = 60_000

/**
 * Says at which level to log the next refused request: the first 60 of a minute at info, the others at debug. One line at
 * the end of the minute says how many those were.
 */
export function createRefusalLog(log: Logger, { windowMs = WINDOW_MS } = {}): () => 'info' | 'debug' {
  let window = { startedAt: Number.NEGATIVE_INFINITY, refused: 0 }
  return () => {
    const at = performance.now()
    if (at - window.startedAt >= windowMs) window = { startedAt: at, refused: 0 }
    const current = window
    current.refused += 1
    if (current.refused <= MAX_LINES) return 'info'
    if (current.refused === MAX_LINES + 1)
      setTimeout(() => {
        const more = current.refused - MAX_LINES
        log.info({
          event: 'requests refused',
          more,
          effect: 'only the first of each minute are logged at info',
        })
      }, windowMs).unref()
    return 'debug'
  }
}
