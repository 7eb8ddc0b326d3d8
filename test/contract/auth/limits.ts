/** How much one caller may ask, and one address may guess. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from '../../support/eventually.ts'
import {
  type GuardedServer,
  rawRequest,
  rpc,
  startGuardedServer,
  TOKENS,
} from '../../support/guarded-server.ts'
import type { AuthSuite } from './server.ts'

export function limits({ engine }: AuthSuite): void {
  describe('limits', () => {
    const LIMIT = 20
    let limited: GuardedServer
    beforeAll(async () => {
      limited = await startGuardedServer(engine, { RATE_LIMIT_PER_MINUTE: String(LIMIT) })
    })
    afterAll(() => limited?.stop())
    const queue = (headers: Record<string, string>) => fetch(`${limited.url}/api/queue`, { headers })
    const statuses = async (count: number, headers: Record<string, string>) => {
      const answers = await Promise.all(Array.from({ length: count }, () => queue(headers)))
      return answers.map(({ status }) => status)
    }

    test('a caller over its limit gets 429 with Retry-After, over REST and MCP; others are served', async () => {
      const alice = { authorization: `Bearer ${TOKENS.alice}` }
      const seen = await statuses(LIMIT + 10, alice)
      expect(seen.filter((status) => status === 200).length).toBeGreaterThanOrEqual(LIMIT)
      expect(seen).toContain(429)
      await eventually(async () => {
        const refused = await queue(alice)
        expect(refused.status).toBe(429)
        expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
        expect(await refused.json()).toMatchObject({ code: 'rate_limited' })
      })
      await eventually(async () =>
        expect(await rpc(limited.url, { token: TOKENS.alice, method: 'tools/list' })).toMatchObject({
          status: 429,
          error: { data: { code: 'rate_limited', retry_after_seconds: expect.any(Number) } },
        }),
      )
      expect((await queue({ authorization: `Bearer ${TOKENS.bob}` })).status).toBe(200)
      expect((await fetch(`${limited.url}/health`)).status).toBe(200)
    })

    test('failed authentications are limited whatever headers say, and lock no good caller out', async () => {
      const forged = (index: number) => ({
        authorization: `Bearer a-guess-at-somebodys-token-${index}`,
        'x-forwarded-for': `203.0.113.${index}`,
        forwarded: `for=203.0.113.${index}`,
        'x-real-ip': `203.0.113.${index}`,
      })
      const answers = await Promise.all(
        Array.from({ length: LIMIT + 10 }, (_, index) => queue(forged(index))),
      )
      expect(answers.map(({ status }) => status)).toContain(429)
      expect((await queue({ authorization: `Bearer ${TOKENS.reader}` })).status).toBe(200)
      const jwt = await limited.issuer.token({ sub: 'new' })
      expect((await queue({ authorization: `Bearer ${jwt}` })).status).toBe(200)
    })

    // Elsewhere 127.0.0.2 has to be set up first.
    test.skipIf(process.platform !== 'linux')(
      'failures count by the address that they come from',
      async () => {
        const knock = async (from: string) =>
          (await rawRequest(limited.url, { path: '/api/queue', headers: { host: 'localhost' }, from })).status
        await eventually(async () => expect(await knock('127.0.0.2')).toBe(429))
        expect(await knock('127.0.0.3')).toBe(401)
      },
    )
  })
}
