/** Nothing but what reads is run, whatever the statement looks like, and whoever it is run as. */
import { describe, expect, test } from 'vitest'
import { DISGUISES, OTHER_WRITES, WRITES } from './statements.ts'
import { type Call, given, type TrinoSuite } from './suite.ts'

export function readOnly(suite: TrinoSuite): void {
  describe('read-only SQL guards that look at the first word (GHSA-65hm-pwj5-73pw)', () => {
    refusals(suite)
    reading(suite)
    writing(suite)
    rules(suite)
  })
}

/** A refusal, by these tools or by Trino. */
const refused = ({ query }: TrinoSuite, sql: string, by: Call) =>
  expect(query(sql, {}, by)).rejects.toMatchObject({
    code: expect.stringMatching(/^(forbidden|invalid_request)$/),
  })

function refusals(suite: TrinoSuite): void {
  const { call, query, held, kept } = suite
  test.each([...WRITES, ...OTHER_WRITES])('refuses %s of a principal that may do everything', async (sql) => {
    await expect(query(sql)).rejects.toMatchObject({
      code: 'forbidden',
      message: expect.stringMatching(/Only statements that read|EXPLAIN is run for queries/),
    })
    expect(await kept()).toEqual([[1]])
  })

  test.each(DISGUISES)('refuses %j', async (sql) => {
    await refused(suite, sql, call)
    expect(await kept()).toEqual([[1]])
  })

  test('no refused statement reached Trino other than to be validated, and none left a trace', async () => {
    expect(await held()).toEqual(suite.heldBefore)
    const seen = (await suite.trino.queries('memory.default.kept')).filter(
      ({ id }) => !suite.seenBefore.has(id),
    )
    expect(seen.length).toBeGreaterThan(20)
    for (const { query } of seen) expect(query).toMatch(/^EXPLAIN \(TYPE VALIDATE\) /)
  })
}

function reading(suite: TrinoSuite): void {
  const { query } = suite
  test.each([
    ...['SELECT 1', 'select 1;', '  SELECT 1 ; \n', '/* a */ SELECT 1 -- b', '(SELECT 1)', 'VALUES 1, 2'],
    ...['TABLE tpch.tiny.nation', 'WITH x AS (SELECT 1 a) SELECT * FROM x', "SELECT ';' || '--' || '/*'"],
    ...[
      'SELECT 1 UNION ALL SELECT 2 ORDER BY 1 LIMIT 1',
      'SHOW CATALOGS',
      '-- x\nshow tables from tpch.tiny',
    ],
    ...['SHOW STATS FOR tpch.tiny.nation', 'SHOW CREATE TABLE tpch.tiny.nation', 'DESC tpch.tiny.nation'],
    ...['DESCRIBE tpch.tiny.nation', 'EXPLAIN SELECT 1', '/* 🦊 */\n EXPLAIN /* b */ (SELECT 1)'],
    ...['SELECT \'INSERT INTO x\' AS "drop table"', 'SELECT * FROM UNNEST(sequence(1, 3))'],
  ])('runs %j', async (sql) => {
    expect((await query(sql)).row_count).toBeGreaterThan(0)
  })

  test('runs nothing but the statement that was written', async () => {
    await query('SELECT \'exactly ; this -- text\' AS "/* and */"')
    expect((await suite.trino.queries('exactly ; this')).map(({ query }) => query).at(-1)).toBe(
      'SELECT \'exactly ; this -- text\' AS "/* and */"',
    )
  })
}

function writing(suite: TrinoSuite): void {
  const { query, toolsFor } = suite
  test('TRINO_ALLOW_WRITES lifts the refusal: the same principal could write all along', async () => {
    const by = toolsFor({}, { allowWrites: true })
    const done = async (sql: string) => (await query(sql, {}, by)).update_type
    expect(await done('CREATE TABLE memory.default.written AS SELECT 1 a')).toBe('CREATE TABLE')
    const { structured, content } = await by('trino_execute_query', {
      query: 'INSERT INTO memory.default.written VALUES 2, 3',
    })
    expect(structured).toMatchObject({ update_type: 'INSERT', update_count: 2 })
    expect(content[0]).toMatchObject({ text: expect.stringContaining('INSERT') })
    await query('EXPLAIN ANALYZE INSERT INTO memory.default.written VALUES 4', {}, by)
    await query("EXECUTE IMMEDIATE 'INSERT INTO memory.default.written VALUES 5'", {}, by)
    expect(await suite.trino.admin('SELECT count(*) FROM memory.default.written')).toEqual([[5]])
    expect(await done('ALTER TABLE memory.default.written ADD COLUMN b bigint')).toBe('ADD COLUMN')
    expect(await done('CREATE VIEW memory.default.view_written AS SELECT 1 a')).toBe('CREATE VIEW')
    expect(await done('DROP VIEW memory.default.view_written')).toBe('DROP VIEW')
    expect(await done('TRUNCATE TABLE memory.default.written')).toBe('TRUNCATE TABLE')
    expect(await done('DROP TABLE memory.default.written')).toBe('DROP TABLE')
  })
}

function rules(suite: TrinoSuite): void {
  const { query, toolsFor, kept } = suite
  describe.skipIf(given !== undefined)('by the rules of docs/trino.md', () => {
    test.each([...WRITES, ...OTHER_WRITES.slice(0, 14), ...DISGUISES.slice(0, 3)])(
      'Trino itself refuses %s',
      async (sql) => {
        const by = toolsFor({ user: 'reader' }, { allowWrites: true })
        await refused(suite, sql, by)
        expect(await kept()).toEqual([[1]])
      },
    )

    test('a reader reads', async () => {
      const by = toolsFor({ user: 'reader' })
      expect(await query('SELECT count(*) FROM tpch.tiny.nation', {}, by)).toMatchObject({ rows: [[25]] })
      expect(
        (await by('trino_list_tables', { catalog: 'tpch', schema: 'tiny' })).structured.tables,
      ).toHaveLength(8)
    })

    test('a function of a catalog is not run, which Trino does not look into', async () => {
      await suite.trino.admin('CREATE FUNCTION memory.default.one() RETURNS int RETURN 1')
      expect(await query('SELECT memory.default.one()')).toMatchObject({ rows: [[1]] })
      await expect(
        query('SELECT memory.default.one()', {}, toolsFor({ user: 'reader' })),
      ).rejects.toMatchObject({
        code: 'forbidden',
      })
      await suite.trino.admin('DROP FUNCTION memory.default.one()')
    })

    test('who is not known may not even ask', async () => {
      await expect(query('SELECT 1', {}, toolsFor({ user: 'nobody' }))).rejects.toMatchObject({
        code: 'forbidden',
        message: expect.stringContaining('Access Denied'),
      })
    })
  })
}
