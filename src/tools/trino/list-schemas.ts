import { z } from 'zod'
import { defineTool } from '../tool.ts'
import { dataplaneArgument, type TrinoAccess } from './access.ts'
import { nameArgument, quoteNames } from './identifier.ts'
import { cutAnswer, describeCut, tableText } from './rows-answer.ts'

/** `trino_list_schemas`: the schemas of a catalog. */
export function listSchemas(access: TrinoAccess) {
  return defineTool({
    name: 'trino_list_schemas',
    title: 'List Trino schemas',
    description: 'Lists the schemas of a Trino catalog.',
    scope: 'data:read',
    annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
    input: z.strictObject({
      ...dataplaneArgument,
      catalog: nameArgument('A catalog that trino_list_catalogs names.'),
    }),
    output: z.object({ schemas: z.array(z.string()), ...cutAnswer }),
    slow: true,
    async run({ dataplane, catalog }, context) {
      const result = await access.run(`SHOW SCHEMAS FROM ${quoteNames(catalog)}`, { dataplane }, context)
      const schemas = result.rows.map(([name]) => String(name))
      const structured = { schemas, ...describeCut(result, access.limits) }
      return { structured, content: [tableText(result, access.limits)] }
    },
  })
}
