/** The caller of a request, and what that caller may do. */
import { SCOPES, type Scope } from './scopes.ts'

/** The owner of jobs, images, keys and limits. */
export interface Identity {
  /** `iss|sub` of a JWT, `token:` and the name of a static token, `local` or `anonymous`. Never a metric label. */
  readonly id: string
}

/** The caller of a request. */
export interface Caller extends Identity {
  readonly scopes: ReadonlySet<Scope>
  /** When the token expires, in milliseconds since 1970; absent: never. A connection must not outlive it. */
  readonly expiresAt?: number
}

/**
 * Every caller where authentication is off: all scopes, but nothing that would be shared with strangers. Keys, joining,
 * adoption and listing are off. Whoever knows the id of a job or picture, which nobody can guess, may use it.
 */
export const ANONYMOUS: Caller = { id: 'anonymous', scopes: new Set(SCOPES) }

/** Who started a server on stdio, which serves nobody else. */
export const LOCAL: Caller = { id: 'local', scopes: new Set(SCOPES) }

/**
 * True where a call that was given up may be taken over by a later one. Strangers may not. On stdio a host gives a call up
 * because its user stopped it: connections there do not break.
 */
export function mayReturn({ id }: Identity): boolean {
  return id !== ANONYMOUS.id && id !== LOCAL.id
}

/** True for a caller who looks like all others. Calls of such callers share nothing. */
export function isAnonymous({ id }: Identity): boolean {
  return id === ANONYMOUS.id
}
