/** Removes expired pictures every minute, to free their space. Reads never show them anyway. */
import { schedule } from 'node-cron'
import type { Logger } from '../telemetry/log.ts'
import type { ImageStore } from './image.ts'

/**
 * Sweeps the store by a cron expression (five fields, or six with seconds first; default: every minute). Returns the
 * function that stops it. If a sweep is still running when the next is due, that next one is skipped. A failed sweep is
 * logged, and the next one tries again. The timer does not keep the process alive.
 * @throws Error for an expression that is not one.
 */
export function scheduleSweep(options: {
  store: Pick<ImageStore, 'sweep'>
  log: Pick<Logger, 'debug' | 'warn' | 'error'>
  cron?: string
}): () => void {
  const { store, log, cron = '* * * * *' } = options
  const task = schedule(
    cron,
    async () => {
      try {
        const removed = await store.sweep()
        if (removed > 0) log.debug({ event: 'expired pictures removed', removed })
      } catch (error) {
        log.error({ event: 'sweep of pictures failed', err: error })
      }
    },
    {
      noOverlap: true,
      unref: true,
      // Its own logger writes to stdout, which on stdio belongs to the protocol.
      logger: {
        debug: (message) => log.debug({ event: 'cron', message: String(message) }),
        info: (message) => log.debug({ event: 'cron', message }),
        warn: (message) => log.warn({ event: 'cron', message }),
        error: (message, error) => log.error({ event: 'cron', message: String(message), err: error }),
      },
    },
  )
  return () => void task.destroy()
}
