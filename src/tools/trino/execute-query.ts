import { z } from 'zod'
import { AppError } from '../../errors.ts'
import { defineTool } from '../tool.ts'
import { dataplaneArgument, type TrinoAccess } from './access.ts'
import { cutAnswer, describeCut, tableText } from './rows-answer.ts'

/** The longest statement, in characters. */
const QUERY_MAX = 20_000

/** A name for a header, so it must be printable ASCII. */
const sessionName = z
  .string()
  .regex(/^[\x21-\x7e]([\x20-\x7e]{0,198}[\x21-\x7e])?$/, 'must be 1-200 printable ASCII characters')

const queryAnswer = z.object({
  columns: z.array(z.object({ name: z.string(), type: z.string().describe("Trino's name of the type.") })),
  rows: z
    .array(z.array(z.unknown()))
    .describe(
      'Cells in the order of the columns. Decimals, and integers beyond 2^53, are strings of digits.',
    ),
  row_count: z.int().describe('Rows in this answer.'),
  ...cutAnswer,
  update_type: z.string().optional().describe('What a statement that is no query did.'),
  update_count: z.int().optional().describe('How many rows it changed.'),
  query_id: z.string().optional().describe("The query's id in Trino."),
})

/** `trino_execute_query`: one statement, read-only unless the server allows writes. */
export function executeQuery(access: TrinoAccess) {
  const { limits, allowWrites } = access
  return defineTool({
    name: 'trino_execute_query',
    title: 'Query Trino',
    description: allowWrites
      ? 'Runs one SQL statement in Trino. Statements that write are run too: ask before you change anything.'
      : 'Runs one SQL statement in Trino that only reads: SELECT, WITH, VALUES, SHOW, DESCRIBE, or EXPLAIN of a query. ' +
        `Returns at most ${limits.maxRows} rows and says so when there are more: prefer aggregates and LIMIT.`,
    scope: 'data:read',
    annotations: {
      readOnlyHint: !allowWrites,
      destructiveHint: allowWrites,
      idempotentHint: !allowWrites,
      openWorldHint: false,
    },
    input: z.strictObject({
      query: z
        .string()
        .min(1)
        .max(QUERY_MAX)
        .refine(isPlain, 'must be Unicode text without control characters other than tabs and line breaks')
        .describe("One statement in Trino's SQL."),
      ...dataplaneArgument,
      catalog: sessionName
        .optional()
        .describe('Where unqualified schemas are looked up. Not with dataplane.'),
      schema: sessionName
        .optional()
        .describe('Where unqualified tables are looked up; needs catalog. Not with dataplane.'),
      maxRows: z
        .int()
        .min(1)
        .max(limits.maxRows)
        .default(limits.maxRows)
        .describe(`Rows to return at most, 1-${limits.maxRows}.`),
    }),
    output: queryAnswer,
    slow: true,
    async run({ query, ...asked }, context) {
      if (asked.schema !== undefined && asked.catalog === undefined)
        throw new AppError(
          'invalid_request',
          'schema is given without catalog: give both, or write full names.',
        )
      const result = await access.runAsked(withoutSemicolon(query), asked, context)
      const { columns, rows, queryId, updateType, updateCount } = result
      const used = { ...limits, maxRows: asked.maxRows }
      const structured = {
        columns: columns.map(({ name, type }) => ({ name, type })),
        rows: rows.map((row) => [...row]),
        row_count: rows.length,
        ...describeCut(result, used),
        update_type: updateType,
        update_count: updateCount,
        query_id: queryId,
      }
      return { structured, content: [tableText(result, used)] }
    },
  })
}

/** Lone surrogates would reach Trino as other characters, and control characters can hide parts of a statement. */
function isPlain(sql: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return sql.isWellFormed() && !/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/.test(sql)
}

/** Trino rejects the semicolon that most people write at the end of a statement. */
function withoutSemicolon(sql: string): string {
  return sql.replace(/;\s*$/, '')
}
