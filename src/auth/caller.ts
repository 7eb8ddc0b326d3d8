/** Who asks, and what they may do. */
import { SCOPES, type Scope } from './scopes.ts'

/** Whose something is. Jobs, images, keys and limits belong to one identity. */
export interface Identity {
  /** `iss|sub` of a JWT, `token:` and the name of a static token, or `anonymous`. Never a metric label. */
  readonly id: string
}

/** Who asks. */
export interface Caller extends Identity {
  readonly scopes: ReadonlySet<Scope>
  /** When the token ends, in milliseconds since 1970; absent: it does not. A connection must not outlive it. */
  readonly expiresAt?: number
}

/** Everybody who comes without authentication, where that is allowed: all scopes, nothing of their own. */
export const ANONYMOUS: Caller = { id: 'anonymous', scopes: new Set(SCOPES) }

/** True where the caller cannot be told from others: listing and adoption are off for such a caller. */
export function isAnonymous({ id }: Identity): boolean {
  return id === ANONYMOUS.id
}
