/** Names and statements from outside: a name is nothing but a name. */
import { describe, expect, test } from 'vitest'
import { RUN, type TrinoSuite } from './suite.ts'

export function names(suite: TrinoSuite): void {
  const { call, query, kept } = suite
  describe('names from outside', () => {
    const NAMES = [
      ...[
        'a"b',
        'a.b',
        'a;b',
        "a'b",
        'a--b',
        'a/*b*/',
        'a\nb',
        'a\r\nb',
        '"',
        '""',
        'a b',
        '  ',
        '🦊',
        'ä\u2028b',
      ],
      ...['x"; DROP TABLE memory.default.kept; --', 'x" OR "a"="a', '\\', '\\"', '%', '\u0007'],
    ]

    // Numbered, so that each is found in Trino's list.
    test.each(NAMES.map((name, index) => `${name}${RUN}.${index}${name}`))(
      '%j is nothing but a name',
      async (name) => {
        const quoted = `"${name.toLowerCase().replaceAll('"', '""')}"`
        const notThere = (tool: string, args: unknown) =>
          expect(call(tool, args)).rejects.toMatchObject({ code: 'invalid_request' })
        await notThere('trino_list_schemas', { catalog: name })
        await notThere('trino_list_tables', { catalog: 'memory', schema: name })
        await notThere('trino_describe_table', { catalog: 'memory', schema: 'default', table: name })
        expect((await suite.trino.queries(quoted)).map(({ query }) => query)).toEqual([
          `SHOW SCHEMAS FROM ${quoted}`,
          `SHOW TABLES FROM "memory".${quoted}`,
          `DESCRIBE "memory"."default".${quoted}`,
        ])
        expect(await kept()).toEqual([[1]])
      },
    )

    test('names are found in any case, as Trino keeps them', async () => {
      const args = { catalog: 'TPCH', schema: 'Tiny' }
      const { structured } = await call('trino_list_tables', args)
      expect(structured.tables).toContainEqual({ schema: 'tiny', table: 'nation' })
      expect(
        (await call('trino_describe_table', { ...args, table: 'NATION' })).structured.columns,
      ).toHaveLength(4)
    })

    test('a default schema needs its catalog', async () => {
      await expect(query('SELECT 1', { schema: 'tiny' })).rejects.toMatchObject({
        code: 'invalid_request',
        message: expect.stringContaining('without catalog'),
      })
    })

    test('a table of such a name is found, listed and described', async () => {
      const table = 'we"ird.na;me--\n/*x*/'
      const quoted = `memory.default."${table.replaceAll('"', '""')}"`
      await suite.trino.admin(`CREATE TABLE IF NOT EXISTS ${quoted} AS SELECT 1 a`)
      const args = { catalog: 'memory', schema: 'default' }
      const { structured } = await call('trino_list_tables', args)
      expect(structured.tables).toContainEqual({ schema: 'default', table })
      const described = await call('trino_describe_table', { ...args, table })
      expect(described.structured.columns).toEqual([{ name: 'a', type: 'integer' }])
      await suite.trino.admin(`DROP TABLE ${quoted}`)
    })

    test.each(['SELECT \u0000 1', 'SELECT 1 \u001b[2K', 'SELECT \u0085 1', 'SELECT \ud800'])(
      'a statement with the control character in %j is refused before Trino sees it',
      async (sql) => {
        await expect(query(sql)).rejects.toMatchObject({
          code: 'invalid_request',
          message: expect.stringContaining('control characters'),
        })
      },
    )

    test.each(['a\r\nX-Trino-User: admin', 'a\u0000', 'ä', ''])(
      '%j is no default catalog',
      async (catalog) => {
        await expect(query('SELECT 1', { catalog })).rejects.toMatchObject({ code: 'invalid_request' })
      },
    )

    test('the default catalog and schema serve unqualified names', async () => {
      const { rows } = await query('SELECT count(*) FROM nation', { catalog: 'tpch', schema: 'tiny' })
      expect(rows).toEqual([[25]])
    })
  })
}
