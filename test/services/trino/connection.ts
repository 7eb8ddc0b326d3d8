/** The way to Trino: encrypted, and broken. */
import { describe, expect, test } from 'vitest'
import type { TrinoOptions } from '../../../src/datasources/trino.ts'
import { eventually } from '../../support/eventually.ts'
import { endless, given, RUN, type TrinoSuite } from './suite.ts'

export function overTls(suite: TrinoSuite): void {
  const { query, toolsFor } = suite
  describe.skipIf(given !== undefined)('over TLS', () => {
    const secure = (options: Partial<TrinoOptions>, user: string | undefined = 'reader') => {
      const by = toolsFor({
        url: suite.own.secureUrl,
        caFile: suite.own.caFile,
        ...(user ? { user } : {}),
        ...options,
      })
      return query('SELECT current_user', {}, by)
    }

    test('a user with a password', async () => {
      expect(await secure({ password: () => suite.own.password })).toMatchObject({ rows: [['reader']] })
    })

    test('a token', async () => {
      expect(await secure({ jwt: () => suite.own.jwt('reader') })).toMatchObject({ rows: [['reader']] })
    })

    test.each<[string, () => Partial<TrinoOptions>]>([
      ['a wrong password', () => ({ password: () => 'wrong' })],
      ['a wrong token', () => ({ jwt: () => `${suite.own.jwt('reader')}x` })],
      ['nothing', () => ({})],
    ])('%s is refused, and the settings are named', async (_, options) => {
      const error = await secure(options()).catch((error) => error)
      expect(error).toMatchObject({
        code: 'runtime_failed',
        message: expect.stringContaining('TRINO_PASSWORD'),
      })
    })

    test('a certificate that nobody vouches for is refused', async () => {
      const by = toolsFor({ url: suite.own.secureUrl, user: 'reader', password: () => suite.own.password })
      await expect(query('SELECT 1', {}, by)).rejects.toMatchObject({ code: 'runtime_unavailable' })
      expect(suite.logged.join('')).toMatch(/SELF_SIGNED|UNABLE_TO_VERIFY|CERT/)
    })
  })
}

export function dying(suite: TrinoSuite): void {
  const { query } = suite
  describe.skipIf(given !== undefined)('a Trino that dies', () => {
    test('in the middle of a query is unavailable, and serves again when it is back', async () => {
      const running = query(endless('orphaned'))
      running.catch(() => {})
      await eventually(async () => expect((await suite.trino.queries(`orphaned_${RUN}`)).length).toBe(2))
      await suite.own.kill()
      await expect(running).rejects.toMatchObject({ code: 'runtime_unavailable' })
      await expect(query('SELECT 1')).rejects.toMatchObject({ code: 'runtime_unavailable' })
      await suite.own.restart()
      expect(await query('SELECT 1')).toMatchObject({ rows: [[1]] })
    }, 300_000)
  })
}
