/** Who asks. Jobs, images, keys and limits belong to one caller. */
export interface Caller {
  /** `iss|sub` of a JWT, the name of a static token, or `anonymous`. Never a metric label. */
  readonly id: string
}

/** Everybody who comes without authentication, where that is allowed. */
export const ANONYMOUS: Caller = { id: 'anonymous' }

/** True where the caller cannot be told from others: listing and adoption are off for such a caller. */
export function isAnonymous(caller: Caller): boolean {
  return caller.id === ANONYMOUS.id
}
