/** Checks JWT access tokens (RFC 7519, RFC 9068): signature, issuer, audience, time and algorithm. Caches the result. */
import { errors, type JWTPayload, jwtVerify } from 'jose'
import { AppError } from '../errors.ts'
import { sha256 } from '../hash.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Caller } from './caller.ts'
import { createJwks } from './jwks.ts'
import { SCOPES } from './scopes.ts'
import type { Secret } from './secret.ts'

/** Signed with the issuer's private key; for AUTH_JWT_JWKS_URL. */
export const ASYMMETRIC = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
] as const
/** Signed with a shared secret; for AUTH_JWT_SECRET. */
export const SYMMETRIC = ['HS256', 'HS384', 'HS512'] as const

export type Algorithm = (typeof ASYMMETRIC)[number] | (typeof SYMMETRIC)[number]

export interface JwtSettings {
  /** One family of algorithms or the other, never both, so that a public key cannot pass as a secret. */
  readonly keys: { readonly jwksUrl: string } | { readonly secret: Secret }
  readonly algorithms: readonly Algorithm[]
  readonly issuer: string
  readonly audience: string
}

/** How far the issuer's clock may differ from ours, in seconds. */
const CLOCK_TOLERANCE_S = 30
/** How long a verified token is cached, in milliseconds; never past its `exp`. */
const CACHE_MS = 300_000
const MAX_CACHED = 10_000
const MAX_SUBJECT = 255
/** Control characters, line ends and halves of characters: no issuer needs them, and stores and logs should not meet them. */
const UNFIT = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u

/** The caller of a JWT. @throws AppError `unauthenticated`; `runtime_unavailable` where its key cannot be fetched. */
export type VerifyJwt = (token: string) => Promise<Caller>

/**
 * A verifier that caches a bounded number of tokens, by their hash.
 * @param settings `secret` holds one or two secrets, "new,old", and is read at every call.
 */
export function createVerifyJwt(settings: JwtSettings & { readonly log: Logger }): VerifyJwt {
  const { keys, issuer, audience } = settings
  const checks = {
    issuer,
    audience,
    algorithms: [...settings.algorithms],
    clockTolerance: CLOCK_TOLERANCE_S,
    requiredClaims: ['exp', 'sub'],
  }
  const jwks = 'jwksUrl' in keys ? createJwks({ url: keys.jwksUrl, log: settings.log }) : undefined
  const cache = new Map<string, { readonly caller: Caller & { expiresAt: number }; readonly until: number }>()
  let secret = ''

  async function payloadOf(token: string): Promise<JWTPayload> {
    if (jwks) return (await jwtVerify(token, jwks, checks)).payload
    const [first, ...older] = secret.split(',').map((key) => new TextEncoder().encode(key))
    let verified = jwtVerify(token, first as Uint8Array, checks)
    for (const key of older)
      verified = verified.catch((error) => {
        if (error instanceof errors.JWSSignatureVerificationFailed) return jwtVerify(token, key, checks)
        throw error
      })
    return (await verified).payload
  }

  return async (token) => {
    // Tokens that an old secret signed must not stay valid.
    if ('secret' in keys && keys.secret.read() !== secret) {
      secret = keys.secret.read()
      cache.clear()
    }
    const hash = sha256(token, 'base64')
    const cached = cache.get(hash)
    if (cached && performance.now() < cached.until && Date.now() < cached.caller.expiresAt)
      return cached.caller
    cache.delete(hash)
    const caller = callerOf(issuer, await payloadOf(token).catch(refuse))
    cache.set(hash, { caller, until: performance.now() + CACHE_MS })
    if (cache.size > MAX_CACHED) cache.delete(cache.keys().next().value as string)
    return caller
  }
}

/** The caller of verified claims. Scopes come from `scope` (RFC 8693) or `scp`; unknown ones are ignored. */
function callerOf(issuer: string, { sub, exp, scope, scp }: JWTPayload): Caller & { expiresAt: number } {
  if (typeof sub !== 'string' || sub === '' || sub.length > MAX_SUBJECT || UNFIT.test(sub))
    throw new AppError(
      'unauthenticated',
      `The token is not valid here: its "sub" must be 1-${MAX_SUBJECT} characters, none of them a control character.`,
    )
  const granted = [scope, scp].flatMap((claim) =>
    typeof claim === 'string' ? claim.split(' ') : (claim ?? []),
  )
  return {
    id: `${issuer}|${sub}`,
    scopes: new Set(SCOPES.filter((known) => granted.includes(known))),
    expiresAt: (exp as number) * 1000,
  }
}

/** Explains what is wrong with a token. The signature is checked first, so a forger learns nothing from it. */
function refuse(error: unknown): never {
  if (!(error instanceof errors.JOSEError)) throw error
  const reason =
    error instanceof errors.JWTExpired
      ? 'it has expired'
      : error instanceof errors.JWTClaimValidationFailed
        ? `its claim "${error.claim}" is missing or not what this server accepts`
        : error instanceof errors.JOSEAlgNotAllowed
          ? 'it is signed with an algorithm that is not accepted here'
          : error instanceof errors.JWKSNoMatchingKey
            ? 'the key that it names is not one of its issuer'
            : 'it is not signed as it should be'
  throw new AppError('unauthenticated', `The token is not valid here: ${reason}.`, { cause: error })
}
