import { z } from 'zod'
import { defineTool } from '../tool.ts'
import { dataplaneArgument, type TrinoAccess } from './access.ts'
import { nameArgument, quoteNames } from './identifier.ts'
import { cutAnswer, describeCut, tableText } from './rows-answer.ts'

/** `trino_describe_table`: the columns of a table or view. */
export function describeTable(access: TrinoAccess) {
  return defineTool({
    name: 'trino_describe_table',
    title: 'Describe a Trino table',
    description: 'Names the columns of a Trino table or view with their types and comments.',
    scope: 'data:read',
    annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
    input: z.strictObject({
      ...dataplaneArgument,
      catalog: nameArgument('A catalog that trino_list_catalogs names.'),
      schema: nameArgument('A schema that trino_list_schemas names.'),
      table: nameArgument('A table that trino_list_tables names.'),
    }),
    output: z.object({
      columns: z.array(
        z.object({
          name: z.string(),
          type: z.string(),
          extra: z.string().describe('For example "partition key".').optional(),
          comment: z.string().optional(),
        }),
      ),
      ...cutAnswer,
    }),
    slow: true,
    async run({ dataplane, catalog, schema, table }, context) {
      const result = await access.run(
        `DESCRIBE ${quoteNames(catalog, schema, table)}`,
        { dataplane },
        context,
      )
      const columns = result.rows.map(([name, type, extra, comment]) => ({
        name: String(name),
        type: String(type),
        extra: extra ? String(extra) : undefined,
        comment: comment ? String(comment) : undefined,
      }))
      const structured = { columns, ...describeCut(result, access.limits) }
      return { structured, content: [tableText(result, access.limits)] }
    },
  })
}
