/** The Trino tools against a real Trino. */
import { pino } from 'pino'
import { BasicAuth, Trino as TheirClient } from 'trino-client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ANONYMOUS } from '../../src/auth/caller.ts'
import { createTrino, type TrinoOptions } from '../../src/datasources/trino.ts'
import { createXdp } from '../../src/datasources/xdp.ts'
import type { Tool } from '../../src/tools/tool.ts'
import { createTrinoAccess, type TrinoAccessOptions } from '../../src/tools/trino/access.ts'
import { describeTable } from '../../src/tools/trino/describe-table.ts'
import { executeQuery } from '../../src/tools/trino/execute-query.ts'
import { listCatalogs } from '../../src/tools/trino/list-catalogs.ts'
import { listSchemas } from '../../src/tools/trino/list-schemas.ts'
import { listTables } from '../../src/tools/trino/list-tables.ts'
import { type FakeXdp, type FakeXdpOptions, startFakeXdp } from '../fakes/xdp.ts'
import { eventually } from '../support/eventually.ts'
import { givenTrino, missingForTrino, startTrino, type TestTrino, type Trino } from '../support/trino.ts'

const given = givenTrino()
const missing = given ? undefined : missingForTrino()
/** Marks the statements of this run: a server that is given may list those of earlier ones. */
const RUN = `run_${Date.now().toString(36)}`
/** The first run on a machine fetches Trino. */
const INSTALL_MS = 900_000
/** A statement that runs until somebody stops it. `mark` finds it again in Trino's list. */
const endless = (mark: string) =>
  `SELECT count(*) AS ${mark}_${RUN} FROM tpch.sf1000.lineitem a CROSS JOIN tpch.sf1000.lineitem b`
/** What the memory catalog can do, so that a refusal is not the catalog's. */
const WRITES = [
  'CREATE TABLE memory.default.made AS SELECT 1 a',
  'CREATE TABLE memory.default.made (a bigint)',
  'INSERT INTO memory.default.kept VALUES 2',
  'TRUNCATE TABLE memory.default.kept',
  'ALTER TABLE memory.default.kept ADD COLUMN b bigint',
  "COMMENT ON TABLE memory.default.kept IS 'x'",
  'CREATE VIEW memory.default.seen AS SELECT 1 a',
  'CREATE SCHEMA memory.made',
  'DROP TABLE memory.default.kept',
  'EXPLAIN ANALYZE INSERT INTO memory.default.kept VALUES 2',
  "EXECUTE IMMEDIATE 'INSERT INTO memory.default.kept VALUES 2'",
]
/** The other kinds. */
const OTHER_WRITES = [
  'DELETE FROM memory.default.kept',
  'UPDATE memory.default.kept SET a = 2',
  'MERGE INTO memory.default.kept k USING (VALUES 1) v(a) ON k.a = v.a WHEN MATCHED THEN DELETE',
  'CREATE OR REPLACE TABLE memory.default.kept AS SELECT 2 a',
  'CREATE MATERIALIZED VIEW memory.default.seen AS SELECT 1 a',
  'REFRESH MATERIALIZED VIEW memory.default.seen',
  'DROP SCHEMA memory.default CASCADE',
  'DROP CATALOG memory',
  'CREATE CATALOG c USING memory',
  'CREATE FUNCTION memory.default.f() RETURNS int RETURN 1',
  'CREATE ROLE r',
  'GRANT SELECT ON memory.default.kept TO reader',
  'REVOKE SELECT ON memory.default.kept FROM reader',
  'DENY SELECT ON memory.default.kept TO reader',
  'SET ROLE ALL IN memory',
  "SET SESSION query_max_run_time = '1h'",
  'RESET SESSION query_max_run_time',
  "SET SESSION AUTHORIZATION 'reader'",
  "CALL system.runtime.kill_query('x', 'y')",
  'ANALYZE memory.default.kept',
  'PREPARE p FROM DROP TABLE memory.default.kept',
  'EXECUTE p',
  'DEALLOCATE PREPARE p',
  'START TRANSACTION',
  'COMMIT',
  'ROLLBACK',
  'USE memory.default',
  "SET TIME ZONE 'UTC'",
  'SET PATH memory.default',
]
/** Texts that hide what they are. */
const DISGUISES = [
  '/* SELECT */ DROP TABLE memory.default.kept',
  '-- SELECT 1\nDROP TABLE memory.default.kept',
  '\t\n  INSERT INTO memory.default.kept VALUES 2',
  'SELECT 1; DROP TABLE memory.default.kept',
  'DROP TABLE memory.default.kept; SELECT 1',
  'DROP TABLE memory.default.kept;',
  'DROP TABLE memory.default.kept -- ) UNION (SELECT 1',
  'DROP TABLE memory.default.kept /*',
  '*/ SELECT 1; DROP TABLE memory.default.kept /*',
  '1) OR EXISTS (SELECT 1); DROP TABLE memory.default.kept; --',
  ') DROP TABLE memory.default.kept; --',
  'EXPLAIN ANALYZE VERBOSE INSERT INTO memory.default.kept VALUES 2',
  '/**/EXPLAIN/**/ANALYZE/**/INSERT INTO memory.default.kept VALUES 2',
  'EXPLAIN -- 🦊\n ANALYZE SELECT 1',
  '/* 🦊 */ EXPLAIN ANALYZE INSERT INTO memory.default.kept VALUES 2',
  'EXPLAIN EXPLAIN ANALYZE INSERT INTO memory.default.kept VALUES 2',
  'EXPLAIN (TYPE VALIDATE) INSERT INTO memory.default.kept VALUES 2',
  'WITH x AS (SELECT 1) INSERT INTO memory.default.kept SELECT * FROM x',
  'WITH FUNCTION f() RETURNS int RETURN 1 SELECT f()',
  'SELECT * FROM TABLE(system.builtin.sequence(1, 3))',
  'SELECT * FROM TABLE/**/(sequence(1, 3))',
  'SELECT * FROM table -- x\n (sequence(1, 3))',
]

if (missing)
  describe('the Trino tools', () => {
    test.skip(`are not tested: ${missing}. Or set TRINO_TEST_URL`, () => {})
  })
else {
  let trino: TestTrino
  /** Present where the tests have a server of their own. */
  let own: Trino
  const logged: string[] = []
  const log = pino({ level: 'trace' }, { write: (line: string) => void logged.push(line) })
  const answered: unknown[] = []
  const closing: (() => Promise<void>)[] = []

  /** All tools as one caller has them; `user` is Trino's. */
  const toolsFor = (trinoOptions: Partial<TrinoOptions> = {}, options: Partial<TrinoAccessOptions> = {}) => {
    const cluster = createTrino({ url: trino.url, user: 'admin', ...trinoOptions })
    closing.push(() => cluster.close())
    const access = createTrinoAccess({
      cluster,
      xdp: undefined,
      limits: { maxRows: 1000, maxBytes: 256 * 1024 },
      timeoutMs: 60_000,
      allowWrites: false,
      log,
      ...options,
    })
    const tools = new Map<string, Tool>(
      [executeQuery, listCatalogs, listSchemas, listTables, describeTable].map((make) => {
        const tool = make(access)
        return [tool.name, tool]
      }),
    )
    return async (name: string, args: unknown, signal = new AbortController().signal) => {
      const context = { caller: ANONYMOUS, signal, requestId: 'request-1' }
      const result = await tools
        .get(name)!
        .call(args, context)
        .catch((error) => {
          answered.push({ message: error.message })
          throw error
        })
      answered.push(result)
      return result
    }
  }
  type Call = ReturnType<typeof toolsFor>
  let call: Call
  const query = async (sql: string, more: Record<string, unknown> = {}, by: Call = call) =>
    (await by('trino_execute_query', { query: sql, ...more })).structured
  /** All that the memory catalog holds. */
  const held = async () => [
    await trino.admin('SHOW SCHEMAS FROM memory'),
    await trino.admin('SHOW TABLES FROM memory.default'),
    await trino.admin('SHOW COLUMNS FROM memory.default.kept'),
  ]
  let heldBefore: unknown[][][]
  let seenBefore: Set<string>
  const kept = () => trino.admin('SELECT a FROM memory.default.kept')

  beforeAll(async () => {
    if (given) trino = given
    else trino = own = await startTrino()
    call = toolsFor()
    await trino.admin("CREATE TABLE IF NOT EXISTS memory.default.kept AS SELECT BIGINT '1' a")
    heldBefore = await held()
    seenBefore = new Set((await trino.queries('memory.default.kept')).map(({ id }) => id))
  }, INSTALL_MS)
  afterAll(async () => {
    await Promise.all(closing.map((close) => close()))
    await trino?.stop()
  })

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

  describe('limits', () => {
    test('60,175 rows are cut at the limit, which the answer states; the query ends in Trino', async () => {
      const sql = `SELECT orderkey, comment AS ${RUN} FROM tpch.tiny.lineitem LIMIT 60175`
      const { structured, content } = await call('trino_execute_query', { query: sql })
      expect(structured).toMatchObject({
        row_count: 1000,
        truncated: true,
        limit: { kind: 'rows', value: 1000 },
      })
      expect(structured.rows).toHaveLength(1000)
      expect(content[0]).toMatchObject({
        text: expect.stringMatching(/^1000 rows, cut at the limit of 1000 rows/),
      })
      await eventually(async () => {
        const states = (await trino.queries(sql)).map(({ state }) => state)
        expect(states).toEqual(['FINISHED', expect.stringMatching(/FINISHED|FAILED/)])
      })
    })

    test('a caller may ask for fewer rows, and exactly as many rows as the limit are no cut', async () => {
      const sql = 'SELECT nationkey FROM tpch.tiny.nation'
      expect(await query(sql, { maxRows: 3 })).toMatchObject({
        row_count: 3,
        limit: { kind: 'rows', value: 3 },
      })
      const whole = await query(sql, { maxRows: 25 })
      expect(whole).toMatchObject({ row_count: 25, truncated: false })
      expect(whole).not.toHaveProperty('limit')
      await expect(query(sql, { maxRows: 1001 })).rejects.toMatchObject({ code: 'invalid_request' })
    })

    test('bytes are limited too', async () => {
      const by = toolsFor({}, { limits: { maxRows: 1000, maxBytes: 2000 } })
      const { structured, content } = await by('trino_execute_query', {
        query: 'SELECT * FROM tpch.tiny.customer',
      })
      expect(structured).toMatchObject({ truncated: true, limit: { kind: 'bytes', value: 2000 } })
      expect(JSON.stringify(structured.rows).length).toBeLessThanOrEqual(2001)
      expect(content[0]).toMatchObject({ text: expect.stringContaining('2000 bytes') })
    })

    test('all rows come where the limits allow them', async () => {
      const by = toolsFor({}, { limits: { maxRows: 100_000, maxBytes: 2 ** 26 } })
      const all = await query('SELECT orderkey, linenumber FROM tpch.tiny.lineitem', {}, by)
      expect(all).toMatchObject({ row_count: 60_175, truncated: false })
      expect(new Set((all.rows as unknown[][]).map(String)).size).toBe(60_175)
    })

    test('a query over its time ends with advice, and in Trino', async () => {
      const by = toolsFor({}, { timeoutMs: 3000 })
      await expect(query(endless('over_time'), {}, by)).rejects.toMatchObject({
        code: 'deadline_exceeded',
        message: expect.stringContaining('TRINO_QUERY_TIMEOUT_MS'),
      })
      await eventually(async () => {
        const [, run] = await trino.queries(`over_time_${RUN}`)
        expect(run).toMatchObject({
          state: 'FAILED',
          error: expect.stringMatching(/USER_CANCELED|EXCEEDED_TIME_LIMIT/),
        })
      })
    })

    test('Trino itself knows the time limit, should this server die', async () => {
      const by = toolsFor({}, { timeoutMs: 7000 })
      const { rows } = await query("SHOW SESSION LIKE 'query_max_run_time'", {}, by)
      expect((rows as string[][])[0]?.[1]).toMatch(/^(6\d{3}|7000)(\.\d+)?ms$|^(6\.\d+|7\.00)s$/)
    })
  })

  describe('cancelling', () => {
    test('is seen in the list of Trino', async () => {
      const abort = new AbortController()
      const gone = call('trino_execute_query', { query: endless('cancelled_one') }, abort.signal)
      gone.catch(() => {})
      await eventually(async () => {
        expect(await trino.queries(`cancelled_one_${RUN}`)).toContainEqual(
          expect.objectContaining({ state: 'RUNNING', query: endless('cancelled_one') }),
        )
      })
      abort.abort(new Error('the caller left'))
      await expect(gone).rejects.toThrow('the caller left')
      await eventually(async () => {
        expect((await trino.queries(`cancelled_one_${RUN}`)).at(-1)).toMatchObject({
          state: 'FAILED',
          error: 'USER_CANCELED',
        })
      })
    })

    test('at any moment leaves nothing running', async () => {
      for (const afterMs of [0, 1, 5, 20, 50, 100, 200]) {
        const signal = AbortSignal.timeout(afterMs)
        await expect(
          call('trino_execute_query', { query: endless('cancelled_early') }, signal),
        ).rejects.toThrow()
      }
      await eventually(async () => {
        const states = (await trino.queries(`cancelled_early_${RUN}`)).map(({ state }) => state)
        expect(states.filter((state) => state !== 'FINISHED' && state !== 'FAILED')).toEqual([])
      })
    })
  })

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

  describe('read-only SQL guards that look at the first word (GHSA-65hm-pwj5-73pw)', () => {
    const refused = (sql: string, by: Call) =>
      expect(query(sql, {}, by)).rejects.toMatchObject({
        code: expect.stringMatching(/^(forbidden|invalid_request)$/),
      })

    test.each([...WRITES, ...OTHER_WRITES])(
      'refuses %s of a principal that may do everything',
      async (sql) => {
        await expect(query(sql)).rejects.toMatchObject({
          code: 'forbidden',
          message: expect.stringMatching(/Only statements that read|EXPLAIN is run for queries/),
        })
        expect(await kept()).toEqual([[1]])
      },
    )

    test.each(DISGUISES)('refuses %j', async (sql) => {
      await refused(sql, call)
      expect(await kept()).toEqual([[1]])
    })

    test('no refused statement reached Trino other than to be validated, and none left a trace', async () => {
      expect(await held()).toEqual(heldBefore)
      const seen = (await trino.queries('memory.default.kept')).filter(({ id }) => !seenBefore.has(id))
      expect(seen.length).toBeGreaterThan(20)
      for (const { query } of seen) expect(query).toMatch(/^EXPLAIN \(TYPE VALIDATE\) /)
    })

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
      expect((await trino.queries('exactly ; this')).map(({ query }) => query).at(-1)).toBe(
        'SELECT \'exactly ; this -- text\' AS "/* and */"',
      )
    })

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
      expect(await trino.admin('SELECT count(*) FROM memory.default.written')).toEqual([[5]])
      expect(await done('ALTER TABLE memory.default.written ADD COLUMN b bigint')).toBe('ADD COLUMN')
      expect(await done('CREATE VIEW memory.default.view_written AS SELECT 1 a')).toBe('CREATE VIEW')
      expect(await done('DROP VIEW memory.default.view_written')).toBe('DROP VIEW')
      expect(await done('TRUNCATE TABLE memory.default.written')).toBe('TRUNCATE TABLE')
      expect(await done('DROP TABLE memory.default.written')).toBe('DROP TABLE')
    })

    describe.skipIf(given !== undefined)('by the rules of docs/trino.md', () => {
      test.each([...WRITES, ...OTHER_WRITES.slice(0, 14), ...DISGUISES.slice(0, 3)])(
        'Trino itself refuses %s',
        async (sql) => {
          const by = toolsFor({ user: 'reader' }, { allowWrites: true })
          await refused(sql, by)
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
        await trino.admin('CREATE FUNCTION memory.default.one() RETURNS int RETURN 1')
        expect(await query('SELECT memory.default.one()')).toMatchObject({ rows: [[1]] })
        await expect(
          query('SELECT memory.default.one()', {}, toolsFor({ user: 'reader' })),
        ).rejects.toMatchObject({
          code: 'forbidden',
        })
        await trino.admin('DROP FUNCTION memory.default.one()')
      })

      test('who is not known may not even ask', async () => {
        await expect(query('SELECT 1', {}, toolsFor({ user: 'nobody' }))).rejects.toMatchObject({
          code: 'forbidden',
          message: expect.stringContaining('Access Denied'),
        })
      })
    })
  })

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
        expect((await trino.queries(quoted)).map(({ query }) => query)).toEqual([
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
      await trino.admin(`CREATE TABLE IF NOT EXISTS ${quoted} AS SELECT 1 a`)
      const args = { catalog: 'memory', schema: 'default' }
      const { structured } = await call('trino_list_tables', args)
      expect(structured.tables).toContainEqual({ schema: 'default', table })
      const described = await call('trino_describe_table', { ...args, table })
      expect(described.structured.columns).toEqual([{ name: 'a', type: 'integer' }])
      await trino.admin(`DROP TABLE ${quoted}`)
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

  describe('through XDP', () => {
    const fakes: FakeXdp[] = []
    afterAll(() => Promise.all(fakes.map((fake) => fake.stop())))
    /** The tools of a server that knows XDP alone, and the fake in front of the real Trino. */
    const throughXdp = async (options: FakeXdpOptions = {}) => {
      const fake = await startFakeXdp({ trinoUrl: trino.url, ...options })
      fakes.push(fake)
      const xdp = createXdp({
        baseUrl: fake.baseUrl,
        accessKey: () => fake.accessKey,
        secretKey: () => fake.secretKey,
        timeoutMs: 30_000,
      })
      closing.push(() => xdp.close())
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

  describe('beside the client that Trino publishes', () => {
    test('there are the same rows in the same order, value by value', async () => {
      const by = toolsFor({}, { limits: { maxRows: 100_000, maxBytes: 2 ** 26 } })
      const sql = 'SELECT * FROM tpch.tiny.lineitem ORDER BY orderkey, linenumber'
      const theirs: unknown[][] = []
      const client = TheirClient.create({ server: trino.url, auth: new BasicAuth('admin') })
      for await (const page of await client.query(sql)) theirs.push(...((page.data ?? []) as unknown[][]))
      expect(theirs).toHaveLength(60_175)
      expect((await query(sql, {}, by)).rows).toEqual(theirs)
    })
  })

  describe.skipIf(given !== undefined)('over TLS', () => {
    const secure = (options: Partial<TrinoOptions>, user: string | undefined = 'reader') => {
      const by = toolsFor({ url: own.secureUrl, caFile: own.caFile, ...(user ? { user } : {}), ...options })
      return query('SELECT current_user', {}, by)
    }

    test('a user with a password', async () => {
      expect(await secure({ password: () => own.password })).toMatchObject({ rows: [['reader']] })
    })

    test('a token', async () => {
      expect(await secure({ jwt: () => own.jwt('reader') })).toMatchObject({ rows: [['reader']] })
    })

    test.each<[string, () => Partial<TrinoOptions>]>([
      ['a wrong password', () => ({ password: () => 'wrong' })],
      ['a wrong token', () => ({ jwt: () => `${own.jwt('reader')}x` })],
      ['nothing', () => ({})],
    ])('%s is refused, and the settings are named', async (_, options) => {
      const error = await secure(options()).catch((error) => error)
      expect(error).toMatchObject({
        code: 'runtime_failed',
        message: expect.stringContaining('TRINO_PASSWORD'),
      })
    })

    test('a certificate that nobody vouches for is refused', async () => {
      const by = toolsFor({ url: own.secureUrl, user: 'reader', password: () => own.password })
      await expect(query('SELECT 1', {}, by)).rejects.toMatchObject({ code: 'runtime_unavailable' })
      expect(logged.join('')).toMatch(/SELF_SIGNED|UNABLE_TO_VERIFY|CERT/)
    })
  })

  describe.skipIf(given !== undefined)('a Trino that dies', () => {
    test('in the middle of a query is unavailable, and serves again when it is back', async () => {
      const running = query(endless('orphaned'))
      running.catch(() => {})
      await eventually(async () => expect((await trino.queries(`orphaned_${RUN}`)).length).toBe(2))
      await own.kill()
      await expect(running).rejects.toMatchObject({ code: 'runtime_unavailable' })
      await expect(query('SELECT 1')).rejects.toMatchObject({ code: 'runtime_unavailable' })
      await own.restart()
      expect(await query('SELECT 1')).toMatchObject({ rows: [[1]] })
    }, 300_000)
  })

  test('nothing that was answered or logged holds a nextUri, a password or a token', () => {
    const all = JSON.stringify(answered) + logged.join('')
    expect(answered.length).toBeGreaterThan(100)
    expect(all).not.toMatch(/v1\/statement|nextUri|failureInfo|Basic |Bearer /)
    if (own) expect(all).not.toContain(own.password)
  })
}
