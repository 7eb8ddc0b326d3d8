/** What a caller is told when a shared store of pictures fails. */
import { AppError } from '../errors.ts'

/** An outage that lasted through the attempts of a read rarely ends sooner. */
const RETRY_AFTER_SECONDS = 5

/**
 * Tells of a failure in a sentence for everyone; the cause is for the log. `what` begins it, without a full stop. An
 * AppError of a connection that is away says so already; `isOutage` knows the store's other outages.
 * @throws AppError `overloaded` for an outage, `internal` for a refusal; any other AppError as it is.
 */
export async function told<T>(
  what: string,
  act: () => Promise<T>,
  isOutage: (error: unknown) => boolean = () => false,
): Promise<T> {
  try {
    return await act()
  } catch (error) {
    if (error instanceof AppError && error.code === 'overloaded')
      throw new AppError('overloaded', `${what}. ${error.message}`, {
        ...(error.cause === undefined ? {} : { cause: error.cause }),
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
