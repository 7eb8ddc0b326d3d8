/** Trino's errors in this server's vocabulary. */
import { AppError, plainText } from '../errors.ts'

/** Trino's messages list all that could have stood at a place; more than this helps nobody. In characters. */
const MESSAGE_MAX = 600

/** What Trino says about a statement: its message, which may begin with a place in it, and the error's name and type. */
export class TrinoError extends Error {
  /** For example `SYNTAX_ERROR`: https://github.com/trinodb/trino, io.trino.spi.StandardErrorCode */
  readonly errorName: string
  readonly errorType: string

  constructor({ message, name, type }: { message: string; name: string; type: string }) {
    super(message)
    this.name = 'TrinoError'
    this.errorName = name
    this.errorType = type
  }
}

/**
 * The answer to a caller. Only a user error's message is passed on: it speaks of the caller's own statement. What
 * others say may name hosts, files and code.
 */
export function fromTrinoError(error: TrinoError): AppError {
  const { message, errorName: name, errorType: type } = error
  const cause = error
  const said = `${plainText(message, MESSAGE_MAX).replace(/\.$/, '')} (${plainText(name, 80)}).`
  if (name === 'PERMISSION_DENIED') return new AppError('forbidden', `Trino: ${said}`, { cause })
  if (name === 'EXCEEDED_TIME_LIMIT') return queryTooLong({ cause })
  if (name === 'USER_CANCELED' || name === 'ADMINISTRATIVELY_KILLED')
    return new AppError('cancelled', `The query was cancelled in Trino (${name}).`, { cause })
  if (type === 'USER_ERROR') return new AppError('invalid_request', `Trino: ${said}`, { cause })
  if (/^EXCEEDED_|^QUERY_HAS_TOO_MANY_STAGES$/.test(name))
    return new AppError(
      'invalid_request',
      `The query needs more than Trino grants it: ${said} Narrow it: fewer columns, a filter, a smaller join.`,
      { cause },
    )
  if (type === 'INSUFFICIENT_RESOURCES')
    return new AppError(
      'overloaded',
      `Trino has no room for the query now (${plainText(name, 80)}). Please try again later.`,
      { cause, retryAfterSeconds: 15 },
    )
  if (/^(SERVER_(STARTING_UP|SHUTTING_DOWN)|NO_NODES_AVAILABLE)$/.test(name))
    return new AppError('runtime_unavailable', 'Trino is starting or stopping. Please try again later.', {
      cause,
    })
  const where = type === 'EXTERNAL' ? 'A system that Trino reads from failed' : 'Trino failed'
  return new AppError(
    'runtime_failed',
    `${where} (${plainText(name, 80)}). Please try again; if it happens again, Trino's log has the cause.`,
    { cause },
  )
}

/** The query took longer than it may. */
export function queryTooLong({ cause, afterMs }: { cause?: unknown; afterMs?: number }): AppError {
  const after = afterMs === undefined ? '' : ` after ${afterMs / 1000} s`
  return new AppError(
    'deadline_exceeded',
    `The query was stopped${after}: it took longer than it may (TRINO_QUERY_TIMEOUT_MS). Narrow it with a filter on ` +
      'a partition column, or aggregate less.',
    { cause },
  )
}
