import { z } from 'zod'
import { defineTool } from '../tool.ts'
import { dataplaneArgument, type TrinoAccess } from './access.ts'
import { nameArgument, quoteNames } from './identifier.ts'
import { cutAnswer, describeCut, tableText } from './rows-answer.ts'

/** `trino_list_tables`: tables and views of a schema, or of all schemas of a catalog. */
export function listTables(access: TrinoAccess) {
  return defineTool({
    name: 'trino_list_tables',
    title: 'List Trino tables',
    description:
      'Lists the tables and views of a Trino schema, or of a whole catalog when schema is left out (large catalogs: give one).',
    scope: 'data:read',
    annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
    input: z.strictObject({
      ...dataplaneArgument,
      catalog: nameArgument('A catalog that trino_list_catalogs names.'),
      schema: nameArgument('A schema that trino_list_schemas names.').optional(),
    }),
    output: z.object({
      tables: z.array(z.object({ schema: z.string(), table: z.string() })),
      ...cutAnswer,
    }),
    slow: true,
    async run({ dataplane, catalog, schema }, context) {
      const sql =
        schema === undefined
          ? `SELECT table_schema, table_name FROM ${quoteNames(catalog, 'information_schema', 'tables')} ` +
            `WHERE table_schema <> 'information_schema' ORDER BY 1, 2`
          : `SHOW TABLES FROM ${quoteNames(catalog, schema)}`
      const result = await access.run(sql, { dataplane }, context)
      const tables = result.rows.map((row) => ({
        schema: schema?.toLowerCase() ?? String(row[0]),
        table: String(row.at(-1)),
      }))
      const structured = { tables, ...describeCut(result, access.limits) }
      return { structured, content: [tableText(result, access.limits)] }
    },
  })
}
