/** Tools over REST: any of them by name, and two with routes of their own. */
import { type Context, Hono } from 'hono'
import { z } from 'zod'
import { parseInput, type ToolCaller } from '../../tools/tool.ts'
import { readJson } from '../body.ts'
import type { AppEnv } from '../context.ts'
import { clientSignal, onSent } from '../leaving.ts'
import { numbers, submissionOf } from './request.ts'

export interface ToolRoutesParts {
  readonly toolCaller: ToolCaller
  readonly maxBodyBytes: number
}

const toolCall = z.strictObject({
  tool: z.string().min(1).max(100),
  params: z.record(z.string(), z.unknown()).optional(),
})

/** What `/api/tools/list` answers. */
export const toolListAnswer = z.object({
  tools: z.array(
    z.looseObject({
      name: z.string(),
      title: z.string(),
      description: z.string(),
      inputSchema: z.record(z.string(), z.unknown()),
      outputSchema: z.record(z.string(), z.unknown()),
    }),
  ),
})

/** The `content` of a tool's answer. */
export const toolContent = z.array(z.looseObject({ type: z.enum(['text', 'image', 'resource_link']) }))

/** `/api/tools`, and the routes of the data tools that are configured. */
export function toolRoutes({ toolCaller, maxBodyBytes }: ToolRoutesParts): Hono<AppEnv> {
  const call = (c: Context<AppEnv>, tool: string, args: unknown) =>
    toolCaller.call(tool, args, {
      caller: c.var.caller,
      signal: clientSignal(c),
      onSent: onSent(c),
      ...submissionOf(c),
    })
  const app = new Hono<AppEnv>()

  app.post('/api/tools/list', (c) =>
    c.json({ tools: [...toolCaller.tools.values()].map(({ listing }) => listing) }),
  )

  app.post('/api/tools/execute', async (c) => {
    const { tool, params } = parseInput(toolCall, await readJson(c.req.raw, { maxBytes: maxBodyBytes }))
    const { structured, content } = await call(c, tool, params)
    return c.json({ tool, data: structured, content })
  })

  if (toolCaller.tools.has('xdp_list_datastores'))
    app.get('/api/xdp/datastores', async (c) => {
      const { page, size, ...rest } = c.req.query()
      const { structured } = await call(c, 'xdp_list_datastores', { ...rest, ...numbers({ page, size }) })
      return c.json(structured)
    })

  if (toolCaller.tools.has('trino_execute_query'))
    app.post('/api/trino/query', async (c) => {
      const query = await readJson(c.req.raw, { maxBytes: maxBodyBytes })
      return c.json((await call(c, 'trino_execute_query', query)).structured)
    })

  return app
}
