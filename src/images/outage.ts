/** What a caller is told when a shared store of pictures fails. */
import { AppError } from '../errors.ts'

/** An outage that lasted through the attempts of a read rarely ends sooner. */
const RETRY_AFTER_SECONDS = 5

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
      throw new AppError(
        'overloaded',
        `${what}. The picture store cannot be reached at the moment; try again shortly.`,
        {
          cause: error,
          retryAfterSeconds: RETRY_AFTER_SECONDS,
        },
      )
    throw new AppError(
      'internal',
      `${what}: the picture store refused. The log of the server has the cause for the operator.`,
      { cause: error },
    )
  }
}
