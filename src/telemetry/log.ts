/** Structured logs as JSON lines. On stdio the protocol uses stdout, so logs go to stderr. */
import { type Logger, pino, stdTimeFunctions } from 'pino'

export type { Logger } from 'pino'

/** Control characters that JSON leaves as they are (DEL, C1), and what turns text around or ends lines. */
const UNSEEN = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** A line of JSON in which no character can control a terminal. JSON has such characters only in strings. */
export function escapeUnseen(line: string): string {
  return line.replace(UNSEEN, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** A logger that writes JSON lines to file descriptor 1 (stdout) or 2 (stderr). */
export function createLogger({ level, fd = 1 }: { level: string; fd?: 1 | 2 }): Logger {
  const destination = pino.destination({ dest: fd, sync: true })
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write: (line: string) => void destination.write(escapeUnseen(line)) },
  )
}

/** Query parameters that are logged unchanged. Of unknown ones not even the name is logged. */
const PLAIN = ['after', 'exp', 'limit', 'page', 'size', 'sort_by', 'variant']
const SECRET = ['access_token', 'sig']

/**
 * The path and query of a URL without secrets: a link's signature or a token would give access to readers of the log.
 * Works on malformed URLs too, because clients send those.
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
