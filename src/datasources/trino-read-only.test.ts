/** What cannot be provoked in a real Trino (test/services/trino.test.ts): answers that are not understood. */
import { describe, expect, test } from 'vitest'
import { AppError } from '../errors.ts'
import { fromTrinoError, TrinoError } from './trino-error.ts'
import { assertReadOnly } from './trino-read-only.ts'

const failing =
  (message: string, name = 'SYNTAX_ERROR') =>
  async () => {
    throw fromTrinoError(new TrinoError({ message, name, type: 'USER_ERROR' }))
  }
const verdict = (run: Parameters<typeof assertReadOnly>[1], sql = 'SHOW TABLES') =>
  assertReadOnly(sql, run).then(
    () => 'runs',
    (error) => (error instanceof AppError ? error.code : 'no AppError'),
  )

describe('a statement is refused where the answer is not the one that Trino gives', () => {
  test.each<[string, Parameters<typeof assertReadOnly>[1], string]>([
    ['true', async () => [[true]], 'runs'],
    ['the word', failing("line 2:1: mismatched input 'SHOW'. Expecting: <query>"), 'runs'],
    ['false', async () => [[false]], 'forbidden'],
    ['a text', async () => [['true']], 'forbidden'],
    ['no rows', async () => [], 'forbidden'],
    ['two rows', async () => [[true], [true]], 'forbidden'],
    ['another word', failing("line 2:1: mismatched input 'DROP'. Expecting: <query>"), 'forbidden'],
    ['another place', failing("line 2:3: mismatched input 'SHOW'. Expecting: <query>"), 'forbidden'],
    ['no such place', failing("line 9:9: mismatched input 'SHOW'. Expecting: <query>"), 'forbidden'],
    ['other words', failing("line 2:1: unexpected 'SHOW'. Expecting: <query>"), 'invalid_request'],
    ['words before', failing("x line 2:1: mismatched input 'SHOW'. Expecting: <query>"), 'invalid_request'],
    ['words after', failing("line 2:1: mismatched input 'SHOW'. Expecting: <query> or"), 'invalid_request'],
    ['another error', failing('no', 'NOT_SUPPORTED'), 'invalid_request'],
  ])('%s', async (_, run, expected) => {
    expect(await verdict(run)).toBe(expected)
  })

  test('a Trino that is away allows nothing', async () => {
    const away = async () => {
      throw new AppError('runtime_unavailable', 'Trino cannot be reached.')
    }
    expect(await verdict(away)).toBe('runtime_unavailable')
  })
})

describe('table functions are refused before Trino is asked', () => {
  const neverAsked = async () => {
    throw new Error('asked')
  }
  test.each([
    'SELECT * FROM TABLE(f())',
    'select * from\ntable\n\t(f())',
    'SELECT * FROM Table/* a */(f())',
    'SELECT * FROM TABLE -- a\n(f())',
    "SELECT 'x'FROM(TABLE(f()))",
    'SELECT 1.TABLE(f())',
  ])('%j', async (sql) => {
    expect(await verdict(neverAsked, sql)).toBe('forbidden')
  })

  test.each([
    'SELECT * FROM my_table (x)',
    'TABLE nation',
    'SELECT * FROM json_table(a, b)',
    'SELECT "table"',
  ])('%j is none', async (sql) => {
    expect(await verdict(async () => [[true]], sql)).toBe('runs')
  })
})

test('EXPLAIN is run where a query follows, which is checked in its place', async () => {
  const asked: string[] = []
  const trino = async (sql: string) => {
    asked.push(sql)
    if (asked.length === 1) await failing("line 3:9: mismatched input 'Explain'. Expecting: <query>")()
    return [[true]]
  }
  expect(await verdict(trino, '-- 🦊\n/* 🦊 */ Explain SELECT 1')).toBe('runs')
  expect(asked[1]).toBe('EXPLAIN (TYPE VALIDATE) SELECT EXISTS (\n-- 🦊\n/* 🦊 */         SELECT 1\n)')
})
