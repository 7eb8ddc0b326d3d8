/** Static bearer tokens: one without a name, or a list of named ones with scopes. */
import { timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import { AppError } from '../errors.ts'
import { sha256 } from '../hash.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Caller } from './caller.ts'
import { SCOPES } from './scopes.ts'
import type { Secret } from './secret.ts'

/** A static token is too long to guess, and printable ASCII, because it goes into a header. */
export const TOKEN_PATTERN = /^[\x21-\x7e]{16,4096}$/

/** The name under which MCP_AUTH_TOKEN owns pictures. */
const DEFAULT_NAME = 'default'

const namedToken = z
  .strictObject({
    name: z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,64}$/, 'must be 1-64 letters, digits, dots, dashes or underscores')
      .refine((name) => name !== DEFAULT_NAME, `"${DEFAULT_NAME}" is the name of MCP_AUTH_TOKEN`),
    token: z
      .string()
      .regex(TOKEN_PATTERN, 'must be at least 16 printable characters without spaces')
      .optional(),
    sha256: z
      .string()
      .regex(/^[0-9a-fA-F]{64}$/, 'must be 64 hexadecimal digits')
      .optional(),
    scopes: z.array(z.enum(SCOPES)).min(1, 'must name at least one scope'),
    expires: z.iso.datetime({ offset: true, error: 'must be a time as in 2027-01-31T00:00:00Z' }).optional(),
  })
  .refine(({ token, sha256 }) => (token === undefined) !== (sha256 === undefined), {
    error: 'must have either token or sha256',
    path: ['token'],
  })

interface Known {
  readonly digest: Buffer
  readonly caller: Caller
}

/**
 * The list of named tokens, from its JSON.
 * @throws Error with every problem and its place in the list. It quotes no value, because values are secrets.
 */
export function parseTokens(text: string): readonly Known[] {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    // The parser's own message quotes the text.
    throw new Error('is not valid JSON')
  }
  const parsed = z.array(namedToken).min(1, 'must have at least one token').max(1000).safeParse(json)
  if (!parsed.success)
    throw new Error(
      parsed.error.issues.map(({ path, message }) => `${path.join('.')} ${message}`.trim()).join('; '),
    )
  const known = parsed.data.map(({ name, token, sha256: hex, scopes, expires }) => ({
    digest: token === undefined ? Buffer.from(hex as string, 'hex') : sha256(token),
    caller: {
      id: `token:${name}`,
      scopes: new Set(scopes),
      expiresAt: expires === undefined ? undefined : Date.parse(expires),
    },
  }))
  for (const distinct of [
    known.map(({ caller }) => caller.id),
    known.map(({ digest }) => digest.toString('hex')),
  ])
    if (new Set(distinct).size < known.length)
      throw new Error('must give every token a name of its own, once')
  return known
}

/** The caller that a token stands for; undefined where it is not known. @throws AppError `unauthenticated`. */
export type FindToken = (presented: string) => Caller | undefined

/**
 * Static tokens from MCP_AUTH_TOKEN and AUTH_TOKENS. Both are read at every call, so that a changed file takes effect.
 * When a list cannot be read, the last good one stays valid and the log says so.
 * Compares the hashes of all tokens, each in constant time.
 */
export function createTokens(options: {
  readonly token: Secret | undefined
  readonly tokens: Secret | undefined
  readonly log: Logger
}): FindToken {
  const single = (text: string): readonly Known[] => [
    { digest: sha256(text), caller: { id: `token:${DEFAULT_NAME}`, scopes: new Set(SCOPES) } },
  ]
  const sources = [
    options.token && lastGood(options.token, single, options.log),
    options.tokens && lastGood(options.tokens, parseTokens, options.log),
  ].filter((source) => source !== undefined)

  return (presented) => {
    const digest = sha256(presented)
    let found: Caller | undefined
    for (const known of sources.flatMap((source) => source()))
      if (timingSafeEqual(digest, known.digest)) found = known.caller
    if (found?.expiresAt !== undefined && found.expiresAt <= Date.now())
      throw new AppError('unauthenticated', 'The bearer token has expired; ask for a new one.')
    return found
  }
}

/** The parsed value of a secret, parsed again when it changes. @throws what `parse` throws, in this call only. */
function lastGood<T>(secret: Secret, parse: (text: string) => T, log: Logger): () => T {
  let text = secret.read()
  let value = parse(text)
  return () => {
    const current = secret.read()
    if (current === text) return value
    text = current
    try {
      value = parse(current)
      log.info({ event: 'tokens read again' })
    } catch (error) {
      log.error({
        event: 'AUTH_TOKENS cannot be read: the last good list stays',
        reason: (error as Error).message,
      })
    }
    return value
  }
}
