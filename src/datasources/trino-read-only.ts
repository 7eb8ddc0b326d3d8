/**
 * Only statements that read. Trino's own parser decides, before anything runs: the statement is put into
 * `EXPLAIN (TYPE VALIDATE) SELECT EXISTS (...)`, which executes nothing. EXISTS is a reserved word, and within its
 * parentheses Trino's grammar (SqlBase.g4) takes a `query` and nothing else. So when the whole is valid, the first
 * token of the statement is SELECT, WITH, VALUES, TABLE or a parenthesis, as Trino's lexer sees it, comments and all;
 * and no statement but a query begins with one of these. Anything else in the text, such as a second statement
 * or a parenthesis that closes too early, can only make it invalid.
 *
 * For anything else Trino names the token that it found instead. Only SHOW and DESCRIBE are taken on its word, and
 * EXPLAIN where a query follows, because EXPLAIN ANALYZE executes.
 */
import { AppError } from '../errors.ts'
import { TrinoError } from './trino-error.ts'

/** Executes nothing of what follows: only EXPLAIN ANALYZE does. */
const VALIDATE = 'EXPLAIN (TYPE VALIDATE) '
const NO_QUERY = /^line (\d+):(\d+): mismatched input '(\w+)'\. Expecting: <query>$/
/**
 * A table function within a query: `TABLE (`. The `query` functions of connectors hand their text to another system,
 * where it may write, and Trino does not look into it. A comment after the word is refused too, and also where the
 * words stand in a text: rather too much than too little.
 */
const TABLE_FUNCTION = /(?<![a-z0-9_])table\s*(?:\(|--|\/\*)/i

/**
 * @param run runs a statement and resolves with its rows; it must reject with an AppError whose cause is Trino's error.
 * @throws AppError `forbidden` for what does not only read, and what Trino says of a query that is wrong.
 */
export async function assertReadOnly(
  sql: string,
  run: (sql: string) => Promise<readonly (readonly unknown[])[]>,
): Promise<void> {
  if (TABLE_FUNCTION.test(sql))
    throw new AppError(
      'forbidden',
      'Table functions, TABLE(...), are refused: what they do in other systems cannot be checked here. ' +
        'For a series of numbers write UNNEST(sequence(1, 10)).',
    )
  const first = await firstWordUnlessQuery(sql, run)
  if (first === undefined || /^(show|describe|desc)$/i.test(first.word)) return
  if (/^explain$/i.test(first.word)) {
    // Blanks keep the places in the statement that errors name.
    const rest = sql.slice(0, first.end).replace(/explain$/i, '       ') + sql.slice(first.end)
    if (!(await firstWordUnlessQuery(rest, run))) return
    throw new AppError(
      'forbidden',
      'EXPLAIN is run for queries, without options and without ANALYZE: EXPLAIN SELECT ...',
    )
  }
  await correctSyntax(sql, run)
  throw new AppError(
    'forbidden',
    `Only statements that read are run: SELECT, WITH, VALUES, SHOW, DESCRIBE, EXPLAIN of a query. Trino found ${first.word.toUpperCase().slice(0, 40)}. ` +
      'The operator of this server may allow others (TRINO_ALLOW_WRITES).',
  )
}

/** Nothing for a valid query; else the word that Trino found where a query should begin, and where it ends. */
async function firstWordUnlessQuery(
  sql: string,
  run: (sql: string) => Promise<readonly (readonly unknown[])[]>,
): Promise<{ word: string; end: number } | undefined> {
  try {
    const rows = await run(`${VALIDATE}SELECT EXISTS (\n${sql}\n)`)
    if (rows.length === 1 && rows[0]?.[0] === true) return undefined
  } catch (error) {
    const trino = trinoErrorOf(error)
    if (!trino) throw error
    const [, line, column, word] = NO_QUERY.exec(trino.message) ?? []
    if (word !== undefined) {
      const start = offsetOf(sql, { line: Number(line) - 1, column: Number(column) })
      if (sql.startsWith(word, start)) return { word, end: start + word.length }
    } else if (trino.errorName !== 'SYNTAX_ERROR') throw inOwnLines(error as AppError)
    else await correctSyntax(sql, run)
  }
  throw new AppError(
    'forbidden',
    'Trino did not say that the statement only reads, so it is not run. Write one query: SELECT ... or WITH ...',
  )
}

/**
 * Says what is wrong with a statement as it was written, without our parentheses, where its syntax is; any other
 * failure does not matter to a statement that is refused.
 * @throws AppError `invalid_request`
 */
async function correctSyntax(sql: string, run: (sql: string) => Promise<unknown>): Promise<void> {
  await run(`${VALIDATE}\n${sql}`).catch((error) => {
    if (trinoErrorOf(error)?.errorName === 'SYNTAX_ERROR') throw inOwnLines(error)
  })
}

function trinoErrorOf(error: unknown): TrinoError | undefined {
  return error instanceof AppError && error.cause instanceof TrinoError ? error.cause : undefined
}

/** The same error with the line numbers of the statement as it was written, which begins in our second line. */
function inOwnLines(error: AppError): AppError {
  const message = error.message.replace(
    /\bline (\d+):/g,
    (_, line) => `line ${Math.max(1, Number(line) - 1)}:`,
  )
  return new AppError(error.code, message, { cause: error.cause })
}

/** Trino counts lines from 1 by line feeds, and columns from 1 in code points. */
function offsetOf(sql: string, { line, column }: { line: number; column: number }): number {
  const lines = sql.split('\n')
  const before = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0)
  return before + [...(lines[line - 1] ?? '')].slice(0, column - 1).join('').length
}
