/** Variables that the middleware sets for the routes. */
import type { Caller } from '../auth/caller.ts'

export type AppEnv = {
  Variables: {
    requestId: string
    /** Absent where a signed link was used, and on open paths. */
    caller: Caller
    /** The picture of a verified signed link. */
    linkedImage?: string
    /** True where the answer is a WebSocket handshake, which the engine writes. */
    upgraded?: boolean
  }
}
