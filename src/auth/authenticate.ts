/** Finds the caller of a request by its bearer token. Without any means of authentication everybody is anonymous. */
import { AppError } from '../errors.ts'
import type { Logger } from '../telemetry/log.ts'
import { ANONYMOUS, type Caller } from './caller.ts'
import { createVerifyJwt, type JwtSettings } from './jwt.ts'
import type { Secret } from './secret.ts'
import { createTokens } from './tokens.ts'

/** The means of authentication. Several may be on. */
export interface AuthSettings {
  /** MCP_AUTH_TOKEN: one token with all scopes. */
  readonly token?: Secret
  /** AUTH_TOKENS: named tokens with scopes, as JSON. */
  readonly tokens?: Secret
  readonly jwt?: JwtSettings
}

/** This server accepts no longer tokens, so hashing or parsing one would waste CPU. */
const MAX_TOKEN_LENGTH = 8192

/**
 * The caller of a request with this `Authorization` header.
 * @throws AppError `unauthenticated`; `runtime_unavailable` where the keys of JWTs cannot be fetched.
 */
export type Authenticate = (authorization: string | undefined) => Promise<Caller>

/** Authentication by the given means; by none, everybody is anonymous. @throws Error when AUTH_TOKENS cannot be read. */
export function createAuthenticate({
  token,
  tokens,
  jwt,
  log,
}: AuthSettings & { readonly log: Logger }): Authenticate {
  if (!token && !tokens && !jwt) return async () => ANONYMOUS
  const findToken = createTokens({ token, tokens, log })
  const verifyJwt = jwt && createVerifyJwt({ ...jwt, log })
  return async (authorization) => {
    const presented = bearerOf(authorization)
    const known = findToken(presented)
    if (known) return known
    if (verifyJwt && presented.split('.').length === 3) return await verifyJwt(presented)
    throw new AppError(
      'unauthenticated',
      'The bearer token is not valid here; ask the operator of this server for one.',
    )
  }
}

/** The token of `Bearer <token>` (RFC 6750), the only scheme accepted. @throws AppError `unauthenticated`. */
function bearerOf(authorization: string | undefined): string {
  const [scheme, presented, ...rest] = authorization?.trim().split(/\s+/) ?? []
  if (
    scheme?.toLowerCase() !== 'bearer' ||
    !presented ||
    rest.length > 0 ||
    presented.length > MAX_TOKEN_LENGTH
  )
    throw new AppError('unauthenticated', 'Send the header "Authorization: Bearer <token>".')
  return presented
}
