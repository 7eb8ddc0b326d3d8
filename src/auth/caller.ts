/** The caller of a request, and what that caller may do. */
import { SCOPES, type Scope } from './scopes.ts'

/** The owner of jobs, images, keys and limits. */
export interface Identity {
  /** `iss|sub` of a JWT, `token:` and the name of a static token, or `anonymous`. Never a metric label. */
  readonly id: string
}

/** The caller of a request. */
export interface Caller extends Identity {
  readonly scopes: ReadonlySet<Scope>
  /** When the token expires, in milliseconds since 1970; absent: never. A connection must not outlive it. */
  readonly expiresAt?: number
}

/** Every caller where authentication is off: all scopes, but no jobs or pictures that only they can list. */
export const ANONYMOUS: Caller = { id: 'anonymous', scopes: new Set(SCOPES) }

/** True for a caller who looks like all others. Listing and adoption are off for such a caller. */
export function isAnonymous({ id }: Identity): boolean {
  return id === ANONYMOUS.id
}
