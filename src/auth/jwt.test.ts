import {
  type CryptoKey,
  exportJWK,
  generateKeyPair,
  type JWK,
  type JWTPayload,
  SignJWT,
  UnsecuredJWT,
} from 'jose'
import { pino } from 'pino'
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { type Algorithm, ASYMMETRIC, createVerifyJwt, SYMMETRIC } from './jwt.ts'
import { fixedSecret, type Secret } from './secret.ts'

const log = pino({ level: 'silent' })
const ISSUER = 'https://issuer.example'
const AUDIENCE = 'https://mcp.example.com/mcp'
const SECRET = 'a-shared-secret-of-at-least-32-characters'
const JWKS_URL = 'https://issuer.example/jwks'
const HOUR_MS = 3_600_000

const seconds = (fromNow: number) => Math.floor(Date.now() / 1000) + fromNow
const CLAIMS = (): JWTPayload => ({
  iss: ISSUER,
  aud: AUDIENCE,
  sub: 'alice',
  exp: seconds(300),
  scope: 'openid image:read image:generate',
})
const bytes = (text: string) => new TextEncoder().encode(text)
const sign = (claims: JWTPayload, key: CryptoKey | Uint8Array, header: { alg: string; kid?: string }) =>
  new SignJWT(claims).setProtectedHeader(header).sign(key)
const hs256 = (claims: JWTPayload, secret = SECRET) => sign(claims, bytes(secret), { alg: 'HS256' })
const without = (name: string): JWTPayload => {
  const { [name]: _, ...rest } = CLAIMS()
  return rest
}

describe('by a shared secret', () => {
  const verifier = (secret: Secret = fixedSecret(SECRET), algorithms: readonly Algorithm[] = ['HS256']) =>
    createVerifyJwt({ keys: { secret }, algorithms, issuer: ISSUER, audience: AUDIENCE, log })

  test('the caller is issuer and subject, its scopes those that are ours, its end that of the token', async () => {
    const claims = CLAIMS()
    expect(await verifier()(await hs256(claims))).toEqual({
      id: `${ISSUER}|alice`,
      scopes: new Set(['image:generate', 'image:read']),
      expiresAt: (claims.exp as number) * 1000,
    })
  })

  test.each<[string, JWTPayload, string[]]>([
    ['scp as a list', { scope: undefined, scp: ['data:read', 'x'] }, ['data:read']],
    ['scp as text', { scope: undefined, scp: 'data:read image:read' }, ['image:read', 'data:read']],
    ['none', { scope: undefined }, []],
    ['something else', { scope: 7, scp: { 'image:read': true } }, []],
  ])('scopes: %s', async (_, claims, scopes) => {
    const caller = await verifier()(await hs256({ ...CLAIMS(), ...claims }))
    expect(caller.scopes).toEqual(new Set(scopes))
  })

  test.each<[string, () => JWTPayload, RegExp]>([
    ['expired', () => ({ ...CLAIMS(), exp: seconds(-60) }), /has expired/],
    ['not valid yet', () => ({ ...CLAIMS(), nbf: seconds(60) }), /"nbf"/],
    ['for another audience', () => ({ ...CLAIMS(), aud: 'https://other.example' }), /"aud"/],
    ['for a part of our audience', () => ({ ...CLAIMS(), aud: AUDIENCE.slice(0, -1) }), /"aud"/],
    ['of another issuer', () => ({ ...CLAIMS(), iss: 'https://evil.example' }), /"iss"/],
    ['without an end', () => without('exp'), /"exp"/],
    ['without an audience', () => without('aud'), /"aud"/],
    ['without an issuer', () => without('iss'), /"iss"/],
    ['of nobody', () => without('sub'), /"sub"/],
    ['of an empty name', () => ({ ...CLAIMS(), sub: '' }), /"sub"/],
    ['of an endless name', () => ({ ...CLAIMS(), sub: 'x'.repeat(256) }), /"sub"/],
  ])('refuses one that is %s', async (_, claims, message) => {
    await expect(verifier()(await hs256(claims()))).rejects.toMatchObject({
      code: 'unauthenticated',
      message: expect.stringMatching(message),
    })
  })

  test('clocks may differ by 30 seconds', async () => {
    await expect(verifier()(await hs256({ ...CLAIMS(), exp: seconds(-20) }))).resolves.toBeDefined()
    await expect(verifier()(await hs256({ ...CLAIMS(), exp: seconds(-31) }))).rejects.toThrow(/expired/)
  })

  test.each(['', 'a', '.', '..', '...', 'e30.e30.', 'e30.e30.e30', `${'x'.repeat(4000)}.a.b`])(
    'refuses %j as no token at all',
    async (text) => {
      await expect(verifier()(text)).rejects.toMatchObject({ code: 'unauthenticated' })
    },
  )

  test('one secret replaces another while both are listed; a withdrawn one takes its tokens along', async () => {
    const next = 'another-secret-of-at-least-32-characters'
    let value = SECRET
    const verify = verifier({ read: () => value, toJSON: () => '' })
    const [old, fresh] = [await hs256(CLAIMS()), await hs256(CLAIMS(), next)]
    await expect(verify(old)).resolves.toBeDefined()
    await expect(verify(fresh)).rejects.toThrow(/not signed/)
    value = `${next},${SECRET}`
    await expect(verify(old)).resolves.toBeDefined()
    await expect(verify(fresh)).resolves.toBeDefined()
    value = next
    await expect(verify(old)).rejects.toThrow(/not signed/)
    await expect(verify(fresh)).resolves.toBeDefined()
  })

  test('JWT algorithm confusion (CVE-2026-22817): only what is on the list is accepted', async () => {
    const verify = verifier()
    for (const alg of ['HS384', 'HS512'])
      await expect(verify(await sign(CLAIMS(), bytes(SECRET.repeat(2)), { alg }))).rejects.toThrow(
        /algorithm/,
      )
    await expect(verify(new UnsecuredJWT(CLAIMS()).encode())).rejects.toMatchObject({
      code: 'unauthenticated',
    })
    const header = Buffer.from('{"alg":"none"}').toString('base64url')
    const [, payload, signature] = (await hs256(CLAIMS())).split('.')
    for (const forged of [`${header}.${payload}.`, `${header}.${payload}.${signature}`])
      await expect(verify(forged)).rejects.toMatchObject({ code: 'unauthenticated' })
  })

  test('hard-coded key bypasses the JWT check (GHSA-g53w-w6mj-hrpp): no well-known secret opens anything', async () => {
    const verify = verifier()
    for (const guess of ['secret', 'changeme', 'default', 'your-256-bit-secret', SECRET.slice(0, -1), ' '])
      await expect(verify(await hs256(CLAIMS(), guess.padEnd(32, '\0')))).rejects.toThrow(/not signed/)
    for (const guess of ['secret', SECRET.toUpperCase()])
      await expect(verify(await hs256(CLAIMS(), guess))).rejects.toThrow(/not signed/)
  })
})

describe('by published keys', () => {
  let pair: Record<'RS256' | 'ES256' | 'EdDSA' | 'next', CryptoKey>
  let published: JWK[]
  let jwks: Record<string, JWK>
  let answer: () => Response
  const fetched = vi.fn(async () => answer())

  beforeAll(async () => {
    const made = async (kid: string, alg: string) => {
      const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
      return { privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
    }
    const [rs, es, ed, next] = await Promise.all([
      made('rs', 'RS256'),
      made('es', 'ES256'),
      made('ed', 'EdDSA'),
      made('next', 'ES256'),
    ])
    pair = { RS256: rs.privateKey, ES256: es.privateKey, EdDSA: ed.privateKey, next: next.privateKey }
    jwks = { rs: rs.jwk, es: es.jwk, ed: ed.jwk, next: next.jwk }
  })
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['Date', 'performance'] })
    published = [jwks.rs, jwks.es, jwks.ed] as JWK[]
    answer = () => Response.json({ keys: published })
    fetched.mockClear()
    vi.stubGlobal('fetch', fetched)
  })
  afterEach(() => {
    vi.useRealTimers()
    vi.unstubAllGlobals()
  })

  const verifier = (algorithms: readonly Algorithm[] = ASYMMETRIC) =>
    createVerifyJwt({ keys: { jwksUrl: JWKS_URL }, algorithms, issuer: ISSUER, audience: AUDIENCE, log })
  const es256 = (claims = CLAIMS()) => sign(claims, pair.ES256, { alg: 'ES256', kid: 'es' })
  const rotated = (claims = CLAIMS()) => sign(claims, pair.next, { alg: 'ES256', kid: 'next' })
  /** A token that no cache knows: each has a name of its own. */
  let count = 0
  const another = () => {
    count += 1
    return es256({ ...CLAIMS(), exp: seconds(48 * 3600), jti: String(count) })
  }
  const later = (ms: number) => vi.advanceTimersByTime(ms)
  const down = () => {
    answer = () => {
      throw new TypeError('fetch failed')
    }
  }

  test.each([
    ['RS256', 'rs'],
    ['ES256', 'es'],
    ['EdDSA', 'ed'],
  ] as const)('%s', async (alg, kid) => {
    expect((await verifier()(await sign(CLAIMS(), pair[alg], { alg, kid }))).id).toBe(`${ISSUER}|alice`)
  })

  test('JWT algorithm confusion (CVE-2026-22817): a public key is never taken for a secret', async () => {
    const verify = verifier()
    for (const alg of SYMMETRIC)
      for (const secret of [JSON.stringify(jwks.rs), jwks.rs?.n as string]) {
        const token = await sign(CLAIMS(), bytes(secret), { alg, kid: 'rs' })
        await expect(verify(token)).rejects.toThrow(/algorithm/)
      }
    const none = new UnsecuredJWT(CLAIMS()).encode()
    await expect(verify(none)).rejects.toMatchObject({ code: 'unauthenticated' })
  })

  test('JWT algorithm confusion (CVE-2026-22817): the list may be narrowed', async () => {
    await expect(verifier(['RS256'])(await es256())).rejects.toThrow(/algorithm/)
  })

  test('a key that comes with the token is not believed', async () => {
    const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
    const jwk = await exportJWK(publicKey)
    for (const header of [
      { alg: 'ES256', kid: 'es', jwk },
      { alg: 'ES256', jwk },
      { alg: 'ES256', kid: 'es', jku: 'https://evil.example/jwks' },
    ]) {
      const token = await new SignJWT(CLAIMS()).setProtectedHeader(header).sign(privateKey)
      await expect(verifier()(token)).rejects.toThrow(/not signed/)
    }
    for (const [address] of fetched.mock.calls as unknown as [string][])
      expect(String(address)).toBe(JWKS_URL)
  })

  test('keys are fetched once for many tokens', async () => {
    const verify = verifier()
    await Promise.all(Array.from({ length: 20 }, async () => verify(await another())))
    expect(fetched).toHaveBeenCalledTimes(1)
  })

  test('a rotated key is found by its id; made-up ids do not make us ask more than every 30 s', async () => {
    const verify = verifier()
    await verify(await es256())
    published = [jwks.next as JWK]
    await expect(verify(await rotated())).rejects.toThrow(/key that it names/)
    expect(fetched).toHaveBeenCalledTimes(1)
    later(31_000)
    await expect(verify(await rotated())).resolves.toBeDefined()
    expect(fetched).toHaveBeenCalledTimes(2)
    for (let round = 0; round < 20; round += 1)
      await verify(await sign(CLAIMS(), pair.next, { alg: 'ES256', kid: `made-up-${round}` })).catch(() => {})
    expect(fetched).toHaveBeenCalledTimes(2)
  })

  test.each([-HOUR_MS, HOUR_MS])('a clock set by %i ms changes no pause between fetches', async (step) => {
    const verify = verifier()
    await verify(await es256())
    vi.setSystemTime(Date.now() + step)
    published = [jwks.next as JWK]
    await expect(verify(await rotated())).rejects.toThrow(/key that it names/)
    expect(fetched).toHaveBeenCalledTimes(1)
    later(31_000)
    await expect(verify(await rotated())).resolves.toBeDefined()
    later(602_000)
    await expect(verify(await es256())).rejects.toThrow(/key that it names/)
  })

  test('a withdrawn key loses effect: unknown tokens within 10 minutes, known ones 5 minutes later', async () => {
    const verify = verifier()
    const known = await another()
    await verify(known)
    published = [jwks.next as JWK]
    later(299_000)
    await expect(verify(known)).resolves.toBeDefined()
    later(302_000)
    await expect(verify(await another())).rejects.toThrow(/key that it names/)
    await expect(verify(known)).rejects.toThrow(/key that it names/)
  })

  test.each<[string, () => void]>([
    ['does not answer', down],
    ['answers 500', () => (answer = () => new Response('no', { status: 500 }))],
    ['answers a web page', () => (answer = () => new Response('<html>'))],
    ['answers no keys', () => (answer = () => Response.json({ error: 'x' }))],
  ])('an issuer that %s: the last keys stay for a day', async (_, fail) => {
    const verify = verifier()
    await verify(await another())
    fail()
    later(20 * HOUR_MS)
    await expect(verify(await another())).resolves.toBeDefined()
    later(5 * HOUR_MS)
    await expect(verify(await another())).rejects.toMatchObject({ code: 'runtime_unavailable' })
    answer = () => Response.json({ keys: published })
    later(6000)
    await expect(verify(await another())).resolves.toBeDefined()
  })

  test('without any keys yet it says that it cannot check now, and asks every 5 s at most', async () => {
    const verify = verifier()
    down()
    for (let round = 0; round < 10; round += 1)
      await expect(verify(await another())).rejects.toMatchObject({
        code: 'runtime_unavailable',
        retryAfterSeconds: 5,
      })
    expect(fetched).toHaveBeenCalledTimes(1)
    answer = () => Response.json({ keys: published })
    later(5001)
    await expect(verify(await another())).resolves.toBeDefined()
  })

  test('a token that was verified needs no second look for 5 minutes, and never outlives its end', async () => {
    const verify = verifier()
    const token = await es256({ ...CLAIMS(), exp: seconds(60) })
    const caller = await verify(token)
    expect(await verify(token)).toBe(caller)
    later(91_000)
    await expect(verify(token)).rejects.toThrow(/expired/)
    const long = await another()
    const first = await verify(long)
    later(301_000)
    const second = await verify(long)
    expect(second).toEqual(first)
    expect(second).not.toBe(first)
  })
})
