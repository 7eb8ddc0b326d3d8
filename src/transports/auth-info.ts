/** Carries who asks through the MCP SDK, whose servers know `AuthInfo` only. */
import type { AuthInfo, RequestId } from '@modelcontextprotocol/server'
import { type Caller, LOCAL } from '../auth/caller.ts'
import type { AppError } from '../errors.ts'

/** What a transport knows of a request or connection. */
export interface Asking {
  readonly caller: Caller
  /** Absent on stdio, where nothing gave the request an id. */
  readonly requestId?: string
  /** The error of a call whose connection has closed. Absent on stdio, where only the client closes it. */
  readonly reasonOfClosing?: () => AppError
  /** Says when the answer to a request has left. Absent on stdio, where one client has the whole process. */
  readonly onSent?: (id: RequestId, done: () => void) => void
}

/** Who asks, as the SDK hands it to the factory of servers. */
export function authInfoOf(asking: Required<Asking>): AuthInfo {
  return { token: '', clientId: asking.caller.id, scopes: [], extra: { ...asking } }
}

/** Who asks. Stdio has no authentication: the caller is the one who started the process. */
export function askingOf(authInfo: AuthInfo | undefined): Asking {
  return (authInfo?.extra as Asking | undefined) ?? { caller: LOCAL }
}
