/**
 * An issuer of JWT access tokens: a key set as RFC 7517 has it, served over HTTP, and tokens as RFC 9068 has them.
 * What stands in for a real authorization server; the signatures are real.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, exportSPKI, generateKeyPair, SignJWT } from 'jose'

export interface Issuer {
  readonly issuer: string
  readonly jwksUrl: string
  readonly audience: string
  /** The published key in PEM, as an attacker can have it. */
  readonly publicPem: string
  /** A token of `sub`; `claims` replace what is usual, `undefined` leaves a claim out. */
  token(options: {
    readonly sub: string
    readonly scope?: string
    readonly claims?: Readonly<Record<string, unknown>>
    /** `published`: a good one; `foreign`: another key under the same id; `withdrawn`: one that is published no more. */
    readonly key?: 'published' | 'foreign' | 'withdrawn'
  }): Promise<string>
  /** Requests of the key set so far. */
  requests(): number
  /** Ends the server, as an outage; tokens can still be made. */
  stop(): Promise<void>
}

/** Starts an issuer on a free port of 127.0.0.1. */
export async function startIssuer({ audience }: { readonly audience: string }): Promise<Issuer> {
  const pairs = await Promise.all(
    ['published', 'foreign', 'withdrawn'].map(async (name) => {
      const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
      return { name, privateKey, publicKey, kid: name === 'withdrawn' ? 'last-year' : 'this-year' }
    }),
  )
  const [published] = pairs as [(typeof pairs)[number]]
  const jwk = { ...(await exportJWK(published.publicKey)), kid: published.kid, alg: 'ES256', use: 'sig' }
  let requests = 0
  const server = createServer((_, response) => {
    requests += 1
    response.setHeader('content-type', 'application/jwk-set+json')
    response.end(JSON.stringify({ keys: [jwk] }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    issuer,
    jwksUrl: `${issuer}/jwks`,
    audience,
    publicPem: await exportSPKI(published.publicKey),
    async token({ sub, scope = 'image:generate image:read data:read', claims, key = 'published' }) {
      const { privateKey, kid } = pairs.find(({ name }) => name === key) as (typeof pairs)[number]
      const exp = Math.floor(Date.now() / 1000) + 3600
      const payload = Object.entries({ iss: issuer, aud: audience, sub, scope, exp, ...claims })
      return await new SignJWT(Object.fromEntries(payload.filter(([, value]) => value !== undefined)))
        .setProtectedHeader({ alg: 'ES256', kid, typ: 'at+jwt' })
        .sign(privateKey)
    },
    requests: () => requests,
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
