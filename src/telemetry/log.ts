/** Structured logs: JSON lines. On stdio the standard output belongs to the protocol, so logs go to stderr. */
import { type Logger, pino, stdTimeFunctions } from 'pino'

export type { Logger } from 'pino'

/** A logger that writes JSON lines to file descriptor 1 (stdout) or 2 (stderr). */
export function createLogger({ level, fd = 1 }: { level: string; fd?: 1 | 2 }): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination({ dest: fd, sync: true }),
  )
}

/** A path with its query, fit for a log: the signature of a link is a key to the picture. */
export function loggablePath(url: string): string {
  const { pathname, search } = new URL(url, 'http://host')
  return pathname + search.replace(/([?&]sig=)[^&]*/g, '$1[redacted]')
}
