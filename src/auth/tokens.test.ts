import { createHash } from 'node:crypto'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { fixedSecret, type Secret } from './secret.ts'
import { createTokens, parseTokens } from './tokens.ts'

const log = pino({ level: 'silent' })
const READER = { name: 'reader', token: 'the-token-of-a-reader', scopes: ['image:read'] }
const HASHED = {
  name: 'ci.bot',
  sha256: createHash('sha256').update('the-token-of-the-ci').digest('hex'),
  scopes: ['image:generate', 'image:read'],
}

/** A secret that a test can change. */
const changing = (value: string): Secret & { set(value: string): void } => {
  let current = value
  return { read: () => current, toJSON: () => '', set: (next) => (current = next) }
}
const find = (list: unknown, token?: string) =>
  createTokens({
    token: token === undefined ? undefined : fixedSecret(token),
    tokens: fixedSecret(JSON.stringify(list)),
    log,
  })

test('each token stands for its caller and its scopes, written out or as a hash', () => {
  const findToken = find([READER, HASHED], 'the-one-and-only-token')
  expect(findToken('the-token-of-a-reader')).toEqual({
    id: 'token:reader',
    scopes: new Set(['image:read']),
  })
  expect(findToken('the-token-of-the-ci')?.id).toBe('token:ci.bot')
  expect(findToken('the-one-and-only-token')).toEqual({
    id: 'token:default',
    scopes: new Set(['image:generate', 'image:read', 'data:read']),
  })
})

test.each(['', 'the-token-of-a-reade', 'the-token-of-a-reader ', 'THE-TOKEN-OF-A-READER', HASHED.sha256])(
  '%j is nobody’s',
  (presented) => {
    expect(find([READER, HASHED])(presented)).toBeUndefined()
  },
)

test('a token ends when it expires, and says so', () => {
  const at = (ms: number) => ({ ...READER, expires: new Date(Date.now() + ms).toISOString() })
  expect(find([at(60_000)])(READER.token)?.expiresAt).toBeGreaterThan(Date.now())
  expect(() => find([at(-1)])(READER.token)).toThrow(
    expect.objectContaining({ code: 'unauthenticated', message: expect.stringContaining('expired') }),
  )
})

test('a changed list is followed; one that cannot be read leaves the last good one', () => {
  const secret = changing(JSON.stringify([READER]))
  const findToken = createTokens({ token: undefined, tokens: secret, log })
  secret.set('[{')
  expect(findToken(READER.token)?.id).toBe('token:reader')
  secret.set(JSON.stringify([HASHED]))
  expect(findToken(READER.token)).toBeUndefined()
  expect(findToken('the-token-of-the-ci')).toBeDefined()
})

test.each<[string, unknown, RegExp]>([
  ['no list', {}, /array/],
  ['an empty list', [], /at least one token/],
  ['a short token', [{ ...READER, token: 'short' }], /0\.token must be at least 16/],
  ['neither token nor hash', [{ name: 'a', scopes: ['image:read'] }], /0\.token must have either/],
  ['both', [{ ...READER, sha256: HASHED.sha256 }], /0\.token must have either/],
  ['an unknown scope', [{ ...READER, scopes: ['admin'] }], /0\.scopes\.0/],
  ['no scope', [{ ...READER, scopes: [] }], /0\.scopes must name at least one/],
  ['a time that is none', [{ ...READER, expires: 'tomorrow' }], /0\.expires must be a time/],
  ['the name of MCP_AUTH_TOKEN', [{ ...READER, name: 'default' }], /0\.name "default"/],
  ['a name that could be another caller', [{ ...READER, name: 'https://iss|sub' }], /0\.name must be/],
  ['two of one name', [READER, { ...HASHED, name: 'reader' }], /name of its own/],
  ['one token twice', [READER, { ...READER, name: 'other' }], /name of its own/],
  ['a typo', [{ ...READER, expire: 'x' }], /expire/],
])('refuses %s', (_, list, message) => {
  expect(() => parseTokens(JSON.stringify(list))).toThrow(message)
})

test('never quotes what it read: it is secret', () => {
  for (const text of ['open-sesame-open-sesame', '[{"token":"open sesame"}]', '[{"sha256":"open-sesame"}]'])
    try {
      parseTokens(text)
      expect.unreachable()
    } catch (error) {
      expect((error as Error).message).not.toContain('sesame')
    }
})
