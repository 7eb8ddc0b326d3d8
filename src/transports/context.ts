/** Variables that the middleware sets for the routes. */
import type { Caller } from '../auth/caller.ts'
import type { AppError } from '../errors.ts'

export type AppEnv = {
  Variables: {
    requestId: string
    /** Absent where a signed link was used, and on open paths. */
    caller: Caller
    /** The picture of a verified signed link. */
    linkedImage?: string
    /** The error of a call whose connection has closed. */
    reasonOfClosing: () => AppError
    /** Set by the first use of `clientSignal`. */
    clientSignal?: AbortSignal
    /** True where the answer is a WebSocket handshake, which the engine writes. */
    upgraded?: boolean
  }
}
