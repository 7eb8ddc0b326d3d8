/** What the middleware leaves for the routes of a request. */
import type { Caller } from '../auth/caller.ts'

export type AppEnv = {
  Variables: {
    requestId: string
    caller: Caller
  }
}
