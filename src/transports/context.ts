/** What the middleware leaves for the routes of a request. */
import type { Caller } from '../auth/caller.ts'

export type AppEnv = {
  Variables: {
    requestId: string
    /** Absent where a signed link was used, and on open paths. */
    caller: Caller
    /** The picture that a signed link, verified, gives away. */
    linkedImage?: string
    /** True where the answer is a WebSocket's handshake, which the engine writes. */
    upgraded?: boolean
  }
}
