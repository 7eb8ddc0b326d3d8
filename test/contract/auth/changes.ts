/** What changes while the server runs: the file of tokens, and whether the issuer answers. */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { eventually } from '../../support/eventually.ts'
import { startGuardedServer, TOKENS } from '../../support/guarded-server.ts'
import { startServer } from '../../support/process.ts'
import type { AuthSuite } from './server.ts'

export function changes(suite: AuthSuite): void {
  const { engine } = suite
  test('a changed file of tokens is followed while the server runs', async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'tokens-')), 'tokens.json')
    const write = (token: string) =>
      writeFileSync(file, JSON.stringify([{ name: 'studio', token, scopes: ['image:read'] }]))
    const [first, second] = ['the-token-of-last-month', 'the-token-of-this-month'] as const
    write(first)
    const { AUTH_TOKENS: _, ...env } = suite.server.env
    const own = await startServer(engine, { ...env, AUTH_TOKENS_FILE: file, PUBLIC_URL: '' })
    const status = async (token: string) =>
      (await fetch(`${own.url}/api/queue`, { headers: { authorization: `Bearer ${token}` } })).status
    expect([await status(first), await status(second)]).toEqual([200, 401])
    write(second)
    await eventually(async () => expect([await status(first), await status(second)]).toEqual([401, 200]))
    writeFileSync(file, '[{"half":')
    await eventually(async () => {
      expect(await status(second)).toBe(200)
      expect(JSON.stringify(own.log)).toContain('the last good list stays')
    })
    await own.stop()
  })

  describe('an outage of the issuer', () => {
    test('stops neither known callers nor new tokens of its known keys', async () => {
      const own = await startGuardedServer(engine)
      const queue = async (sub: string) =>
        (
          await fetch(`${own.url}/api/queue`, {
            headers: { authorization: `Bearer ${await own.issuer.token({ sub })}` },
          })
        ).status
      expect(await queue('early')).toBe(200)
      expect(own.issuer.requests()).toBe(1)
      await own.issuer.stop()
      expect(await queue('late')).toBe(200)
      await own.stop()
    })

    test('before the first key: 503 with Retry-After for JWTs; static tokens work', async () => {
      const own = await startGuardedServer(engine)
      const token = await own.issuer.token({ sub: 'early' })
      await own.issuer.stop()
      const queue = (bearer: string) =>
        fetch(`${own.url}/api/queue`, { headers: { authorization: `Bearer ${bearer}` } })
      const answer = await queue(token)
      expect(answer.status).toBe(503)
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
      expect((await queue(TOKENS.alice)).status).toBe(200)
      await own.stop()
    })
  })
}
