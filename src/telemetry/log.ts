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

/** Parameters that are logged as they came. Of all others not even the name is, where it is none of ours. */
const PLAIN = ['after', 'exp', 'limit', 'page', 'size', 'sort_by', 'variant']
const SECRET = ['access_token', 'sig']

/**
 * A path with its query, fit for a log: a link's signature or a token in the URL opens what it is for. Also of what is
 * no URL, as a server gets to hear it.
 */
export function loggablePath(url: string): string {
  const [, pathname = '', search = ''] = /^(?:https?:\/\/[^/?]*)?([^?]*)\??(.*)$/s.exec(url) ?? []
  const parameters = search.split('&').filter(Boolean)
  const loggable = parameters.map((parameter) => {
    const name = parameter.split('=')[0] as string
    if (PLAIN.includes(name)) return parameter
    return SECRET.includes(name) ? `${name}=[redacted]` : '[redacted]'
  })
  return loggable.length === 0 ? pathname : `${pathname}?${loggable.join('&')}`
}
