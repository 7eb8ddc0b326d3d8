/** What the tools answer: names, values, errors. */
import { BasicAuth, Trino as TheirClient } from 'trino-client'
import { describe, expect, test } from 'vitest'
import type { TrinoSuite } from './suite.ts'

export function exploring({ call }: TrinoSuite): void {
  describe('exploring', () => {
    test('lists catalogs, schemas and tables, and describes a table', async () => {
      const catalogs = await call('trino_list_catalogs', {})
      expect(catalogs.structured).toMatchObject({
        catalogs: expect.arrayContaining(['memory', 'tpch']),
        truncated: false,
      })
      expect((await call('trino_list_schemas', { catalog: 'tpch' })).structured.schemas).toContain('tiny')
      const tables = await call('trino_list_tables', { catalog: 'tpch', schema: 'tiny' })
      expect(tables.structured.tables).toContainEqual({ schema: 'tiny', table: 'lineitem' })
      const all = await call('trino_list_tables', { catalog: 'tpch' })
      expect(all.structured.tables).toContainEqual({ schema: 'sf1', table: 'orders' })
      const described = await call('trino_describe_table', {
        catalog: 'tpch',
        schema: 'tiny',
        table: 'nation',
      })
      expect(described.structured).toEqual({
        columns: [
          { name: 'nationkey', type: 'bigint' },
          { name: 'name', type: 'varchar(25)' },
          { name: 'regionkey', type: 'bigint' },
          { name: 'comment', type: 'varchar(152)' },
        ],
        truncated: false,
      })
      expect(described.content[0]).toMatchObject({ text: expect.stringContaining('| nationkey | bigint |') })
    })

    test.each([
      ['trino_list_schemas', { catalog: 'nope' }, /'nope' not found/],
      ['trino_list_tables', { catalog: 'tpch', schema: 'nope' }, /'nope' does not exist/],
      ['trino_describe_table', { catalog: 'tpch', schema: 'tiny', table: 'nope' }, /nope' does not exist/],
    ])('%s says what is not there', async (tool, args, message) => {
      await expect(call(tool, args)).rejects.toMatchObject({
        code: 'invalid_request',
        message: expect.stringMatching(message),
      })
    })
  })
}

export function values({ query }: TrinoSuite): void {
  describe('values', () => {
    test('are exact: integers beyond 2^53, decimals, microseconds, arrays, rows, maps, nulls', async () => {
      const { columns, rows } = await query(`SELECT
        BIGINT '9007199254740993' beyond, BIGINT '-9223372036854775808' least, BIGINT '9007199254740991' within,
        DECIMAL '12345678901234567890.12' exact, TIMESTAMP '2020-01-02 03:04:05.123456' micros,
        TIMESTAMP '2020-01-02 03:04:05.123456789 Europe/Vienna' zoned, ARRAY[1, NULL] list,
        CAST(ROW(BIGINT '9007199254740993', 'x') AS ROW(i bigint, s varchar)) record,
        MAP(ARRAY['k'], ARRAY[BIGINT '9007199254740993']) map, CAST(NULL AS varchar) nothing,
        nan() nan, 1.5e300 wide, X'00ff' bytes, '1234567890123456789' digits, true yes`)
      expect(rows).toEqual([
        [
          ...['9007199254740993', '-9223372036854775808', 9007199254740991, '12345678901234567890.12'],
          ...['2020-01-02 03:04:05.123456', '2020-01-02 03:04:05.123456789 Europe/Vienna', [1, null]],
          ...[['9007199254740993', 'x'], { k: '9007199254740993' }, null, 'NaN', 1.5e300, 'AP8='],
          ...['1234567890123456789', true],
        ],
      ])
      const types = Object.fromEntries(
        (columns as { name: string; type: string }[]).map((c) => [c.name, c.type]),
      )
      expect(types).toMatchObject({
        beyond: 'bigint',
        exact: 'decimal(22, 2)',
        micros: 'timestamp(6)',
        list: 'array(integer)',
        record: 'row(i bigint, s varchar)',
        map: 'map(varchar(1), bigint)',
      })
    })

    test('two columns may have one name', async () => {
      expect(await query('SELECT 1 a, 2 a')).toMatchObject({ rows: [[1, 2]] })
    })
  })
}

export function errors({ query }: TrinoSuite): void {
  describe('errors', () => {
    test.each([
      ['a syntax error', 'SELECT 1 FROM', /line 1:14: mismatched input.*SYNTAX_ERROR/],
      [
        'in its own lines',
        'SELECT 1,\n  2\nFROM tpch.tiny.nope',
        /line 3:6: Table 'tpch\.tiny\.nope' does not exist \(TABLE_NOT_FOUND\)/,
      ],
      [
        'an unknown column',
        'SELECT nope FROM tpch.tiny.nation',
        /line 1:8: Column 'nope' cannot be resolved/,
      ],
      ['an unknown catalog', 'SELECT * FROM nope.a.b', /line 1:15: Catalog 'nope' not found/],
      ['a word that begins no statement', 'SELEC 1', /line 1:1: mismatched input 'SELEC'.*SYNTAX_ERROR/],
      ['explaining', '/* 1 */ EXPLAIN SELECT nope', /line 1:24: Column 'nope' cannot be resolved/],
      [
        'found while it runs',
        'SELECT 1 / (nationkey - nationkey) FROM tpch.tiny.nation',
        /Division by zero \(DIVISION_BY_ZERO\)/,
      ],
    ])('%s: what Trino says, and no more', async (_, sql, message) => {
      const error = await query(sql).catch((error) => error)
      expect(error).toMatchObject({ code: 'invalid_request', message: expect.stringMatching(message) })
      expect(error.message).not.toMatch(/failureInfo|io\.trino|\.java/)
    })
  })
}

export function sameAsTheirs(suite: TrinoSuite): void {
  const { toolsFor, query } = suite
  describe('beside the client that Trino publishes', () => {
    test('there are the same rows in the same order, value by value', async () => {
      const by = toolsFor({}, { limits: { maxRows: 100_000, maxBytes: 2 ** 26 } })
      const sql = 'SELECT * FROM tpch.tiny.lineitem ORDER BY orderkey, linenumber'
      const theirs: unknown[][] = []
      const client = TheirClient.create({ server: suite.trino.url, auth: new BasicAuth('admin') })
      for await (const page of await client.query(sql)) theirs.push(...((page.data ?? []) as unknown[][]))
      expect(theirs).toHaveLength(60_175)
      expect((await query(sql, {}, by)).rows).toEqual(theirs)
    })
  })
}
