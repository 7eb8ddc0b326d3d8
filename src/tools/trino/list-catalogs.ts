import { z } from 'zod'
import { defineTool } from '../tool.ts'
import { dataplaneArgument, type TrinoAccess } from './access.ts'
import { cutAnswer, describeCut, tableText } from './rows-answer.ts'

/** `trino_list_catalogs`: the systems that Trino is connected to. */
export function listCatalogs(access: TrinoAccess) {
  return defineTool({
    name: 'trino_list_catalogs',
    title: 'List Trino catalogs',
    description: 'Lists the catalogs of Trino: the systems whose tables it can read.',
    scope: 'data:read',
    annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
    input: z.strictObject(dataplaneArgument),
    output: z.object({ catalogs: z.array(z.string()), ...cutAnswer }),
    slow: true,
    async run(asked, context) {
      const result = await access.run('SHOW CATALOGS', asked, context)
      const catalogs = result.rows.map(([name]) => String(name))
      const structured = { catalogs, ...describeCut(result, access.limits) }
      return { structured, content: [tableText(result, access.limits)] }
    },
  })
}
