import { z } from 'zod'
import type { Xdp } from '../../datasources/xdp.ts'
import { AppError, plainText } from '../../errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import { defineTool } from '../tool.ts'

/** Arguments of a listing, for the tool and for REST. */
export const datastoreListing = z.strictObject({
  page: z.int().min(0).max(1_000_000).default(0).describe('Counted from 0.'),
  size: z.int().min(1).max(100).default(20).describe('Datastores a page, 1-100.'),
  sortBy: z
    .string()
    .regex(
      /^[A-Za-z][A-Za-z0-9_.]{0,63}:(asc|desc)$/,
      'must be a field and a direction, such as "updatedAt:asc"',
    )
    .default('updatedAt:asc')
    .describe('A field and a direction.'),
})

/** The answer of the tool and of REST. */
export const datastoresAnswer = z.object({
  datastores: z.array(z.record(z.string(), z.unknown())).describe('As XDP describes them.'),
  pagination: z.object({
    page: z.number(),
    size: z.number(),
    totalElements: z.number(),
    totalPages: z.number(),
  }),
})

/** `xdp_list_datastores`: a page of the datastores in XDP. */
export function listDatastores({ xdp, log }: { readonly xdp: Xdp; readonly log: Logger }) {
  return defineTool({
    name: 'xdp_list_datastores',
    title: 'List XDP datastores',
    description: 'Lists the datastores that Acceldata XDP knows, a page at a time.',
    scope: 'data:read',
    annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
    input: datastoreListing,
    output: datastoresAnswer,
    slow: true,
    async run(page, { signal, requestId }) {
      const answer = await xdp.listDatastores(page, { signal }).catch((error) => {
        if (error instanceof AppError && error.status >= 500)
          log.warn({ event: 'xdp failed', request_id: requestId, code: error.code, err: error.cause })
        throw error
      })
      const { datastores, pagination } = answer
      const lines = datastores.map(
        (store) => `- ${plainText(String(store.name ?? store.id ?? '(no name)'), 100)}`,
      )
      const text = [
        `${datastores.length} of ${pagination.totalElements} datastores, page ${pagination.page} of ${pagination.totalPages} (counted from 0):`,
        ...lines,
      ].join('\n')
      return {
        structured: { datastores: datastores.map((store) => ({ ...store })), pagination: { ...pagination } },
        content: [{ type: 'text', text }],
      }
    },
  })
}
