/** The same Trino through XDP. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createXdp } from '../../../src/datasources/xdp.ts'
import { type FakeXdp, type FakeXdpOptions, startFakeXdp } from '../../fakes/xdp.ts'
import { eventually } from '../../support/eventually.ts'
import { DISGUISES, OTHER_WRITES, WRITES } from './statements.ts'
import type { TrinoSuite } from './suite.ts'

export function throughXdp(suite: TrinoSuite): void {
  const { query, toolsFor, kept } = suite
  describe('through XDP', () => {
    const fakes: FakeXdp[] = []
    afterAll(() => Promise.all(fakes.map((fake) => fake.stop())))
    /** The tools of a server that knows XDP alone, and the fake in front of the real Trino. */
    const throughXdp = async (options: FakeXdpOptions = {}) => {
      const fake = await startFakeXdp({ trinoUrl: suite.trino.url, ...options })
      fakes.push(fake)
      const xdp = createXdp({
        baseUrl: fake.baseUrl,
        accessKey: () => fake.accessKey,
        secretKey: () => fake.secretKey,
        timeoutMs: 30_000,
      })
      suite.closing.push(() => xdp.close())
      const by = toolsFor({}, { cluster: undefined, xdp })
      return { fake, by, ask: (sql: string) => query(sql, { dataplane: 'plane-1' }, by) }
    }

    test('lists and describes, and asks the data plane that was named', async () => {
      const { fake, by } = await throughXdp()
      const dataplane = 'plane-1'
      expect((await by('trino_list_catalogs', { dataplane })).structured.catalogs).toContain('tpch')
      expect((await by('trino_list_schemas', { dataplane, catalog: 'tpch' })).structured.schemas).toContain(
        'tiny',
      )
      const table = { dataplane, catalog: 'tpch', schema: 'tiny', table: 'nation' }
      expect((await by('trino_describe_table', table)).structured.columns).toHaveLength(4)
      expect(fake.statements.at(-1)).toEqual({
        dataplane: 'plane-1',
        query: 'DESCRIBE "tpch"."tiny"."nation"',
      })
    })

    test('60,175 rows are followed up to the limit, and stopped in Trino', async () => {
      const { fake, ask } = await throughXdp()
      expect(await ask('SELECT orderkey FROM tpch.tiny.lineitem')).toMatchObject({
        row_count: 1000,
        truncated: true,
        limit: { kind: 'rows', value: 1000 },
      })
      await eventually(() => expect(fake.seen.at(-1)).toMatch(/^DELETE \/query\/next/))
    })

    test("rows that lie at Trino's own address are stated as missing", async () => {
      const { ask } = await throughXdp({ nextUri: 'trino' })
      const answer = await ask('SELECT orderkey, comment FROM tpch.tiny.lineitem')
      expect(answer).toMatchObject({ truncated: true })
    })

    describe.each(['object', 'text'] as const)('where XDP passes errors on as %s', (errors) => {
      let through: Awaited<ReturnType<typeof throughXdp>>
      beforeAll(async () => {
        through = await throughXdp({ errors })
      })

      test.each([...WRITES, ...OTHER_WRITES, ...DISGUISES])('refuses %j', async (sql) => {
        await expect(through.ask(sql)).rejects.toMatchObject({
          code: expect.stringMatching(/^(forbidden|invalid_request)$/),
        })
        expect(await kept()).toEqual([[1]])
        for (const statement of through.fake.statements)
          expect(statement.query).toMatch(/^EXPLAIN \(TYPE VALIDATE\) /)
      })

      test.each(['SELECT 1;', 'SHOW CATALOGS', '/* x */ DESCRIBE tpch.tiny.nation', 'EXPLAIN SELECT 1'])(
        'runs %s',
        async (sql) => {
          const one = await throughXdp({ errors })
          expect((await one.ask(sql)).row_count).toBeGreaterThan(0)
        },
      )

      test('says what Trino says', async () => {
        const one = await throughXdp({ errors })
        await expect(one.ask('SELECT *\nFROM tpch.tiny.nope')).rejects.toMatchObject({
          code: 'invalid_request',
          message: expect.stringContaining("line 2:6: Table 'tpch.tiny.nope' does not exist"),
        })
      })
    })

    test('a way that is not configured is named', async () => {
      const { by } = await throughXdp()
      await expect(query('SELECT 1', {}, by)).rejects.toMatchObject({
        code: 'invalid_request',
        message: expect.stringMatching(/dataplane is missing.*TRINO_URL/),
      })
      await expect(query('SELECT 1', { dataplane: 'plane-1' })).rejects.toMatchObject({
        code: 'invalid_request',
        message: expect.stringContaining('XDP_BASE_URL'),
      })
    })
  })
}
