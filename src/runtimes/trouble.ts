/** What went wrong with a runtime over HTTP, beside what callers read: a pool has to know whether to use it again. */
import { AppError, type ErrorCode } from '../errors.ts'

export type Trouble =
  /** No answer: there is no connection, it broke before the answer's headers, or nothing is served under that path. */
  | 'unreachable'
  /** It works, and takes no request now. */
  | 'busy'
  /** The answer broke off, or went silent. */
  | 'lost'
  /** It answered, and made no picture. */
  | 'failed'

/** An error of a runtime over HTTP. */
export class RuntimeError extends AppError {
  readonly trouble: Trouble
  /** Milliseconds for which it wants no request; absent: it did not say. */
  readonly busyMs: number | undefined

  constructor(
    code: ErrorCode,
    message: string,
    options: { trouble: Trouble; cause?: unknown; retryAfterSeconds?: number | undefined },
  ) {
    const { trouble, cause, retryAfterSeconds } = options
    super(code, message, { cause, retryAfterSeconds })
    this.name = 'RuntimeError'
    this.trouble = trouble
    this.busyMs = retryAfterSeconds === undefined ? undefined : retryAfterSeconds * 1000
  }
}
