/** What a caller is told when a shared store of pictures fails. */
import { AppError } from '../errors.ts'

/** An outage that lasted through the attempts of a read rarely ends sooner. */
const RETRY_AFTER_SECONDS = 5

const UNREACHABLE = 'The picture store cannot be reached at the moment; try again shortly.'
const FULL = 'The picture store is full; try again later.'
const UNWRITABLE =
  'The picture store cannot be written to; try again later. The log of the server has the cause.'

/** How a full store says so: a disk or a quota, Valkey, an S3 store. */
function isFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code, full, cause, message } = error as Error & { code?: unknown; full?: unknown }
  return full === true || code === 'ENOSPC' || code === 'EDQUOT' || message.startsWith('OOM') || isFull(cause)
}

/** True for a store that gave no answer: of S3, or a connection that is away. */
function isAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code, transient, cause } = error as Error & { code?: unknown; transient?: unknown }
  return transient === true || code === 'overloaded' || isAway(cause)
}

/** Why a store takes no pictures, for callers who ask for one, from what its check or its `put` threw. */
export function troubleOf(error: unknown): AppError {
  const message = isFull(error) ? FULL : isAway(error) ? UNREACHABLE : UNWRITABLE
  return new AppError('overloaded', message, { retryAfterSeconds: RETRY_AFTER_SECONDS })
}

/**
 * Turns the failure of an act into a sentence for the caller; the cause is for the log. `what` is the beginning of that
 * sentence, without a full stop. An AppError of a connection that is away says so itself; `isOutage` tells the store's
 * other outages from refusals.
 * @throws AppError `overloaded` for an outage, `internal` for a refusal; any other AppError as it is.
 */
export async function explainOutage<T>(
  what: string,
  act: () => Promise<T>,
  isOutage: (error: unknown) => boolean = () => false,
): Promise<T> {
  try {
    return await act()
  } catch (error) {
    if (error instanceof AppError && error.code === 'overloaded')
      throw new AppError('overloaded', `${what}. ${error.message}`, {
        cause: error.cause,
        retryAfterSeconds: RETRY_AFTER_SECONDS,
      })
    if (error instanceof AppError) throw error
    if (isOutage(error))
      throw new AppError('overloaded', `${what}. ${isFull(error) ? FULL : UNREACHABLE}`, {
        cause: error,
        retryAfterSeconds: RETRY_AFTER_SECONDS,
      })
    throw new AppError(
      'internal',
      `${what}: the picture store refused. The log of the server has the cause for the operator.`,
      { cause: error },
    )
  }
}
