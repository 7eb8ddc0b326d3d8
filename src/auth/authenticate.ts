/** Who is asking: a static bearer token, or nobody in particular where authentication is off. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { AppError } from '../errors.ts'
import { ANONYMOUS, type Caller } from './caller.ts'
import { SCOPES } from './scopes.ts'
import type { Secret } from './secret.ts'

/** The caller that MCP_AUTH_TOKEN stands for. */
const TOKEN_CALLER: Caller = { id: 'token:default', scopes: new Set(SCOPES) }

/**
 * The caller of a request with this `Authorization` header.
 * @throws AppError `unauthenticated`.
 */
export type Authenticate = (authorization: string | undefined) => Promise<Caller>

/** Without a token everybody is anonymous. Tokens are compared in constant time, by their hashes. */
export function createAuthenticate({ token }: { token?: Secret | undefined }): Authenticate {
  if (!token) return async () => ANONYMOUS
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return async (authorization) => {
    const [scheme, presented, ...rest] = authorization?.trim().split(/\s+/) ?? []
    if (scheme?.toLowerCase() !== 'bearer' || !presented || rest.length > 0)
      throw new AppError('unauthenticated', 'Send the header "Authorization: Bearer <token>".')
    if (!timingSafeEqual(digest(presented), digest(token.read())))
      throw new AppError(
        'unauthenticated',
        'The bearer token is not valid here; ask whoever runs this server for one.',
      )
    return TOKEN_CALLER
  }
}
