/** The floor for MCP: the SDK's own handler with one trivial tool, and nothing in front of it. */
import { serve } from '@hono/node-server'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'

const handler = createMcpHandler(() => {
  const server = new McpServer({ name: 'bare', version: '1' })
  server.registerTool('trivial', { description: 'Answers.', inputSchema: z.object({}) }, async () => ({
    content: [{ type: 'text', text: 'ok' }],
  }))
  return server
})
serve({ fetch: (request) => handler.fetch(request), hostname: '127.0.0.1', port: 0 }, ({ port }) =>
  console.log(JSON.stringify({ url: `http://127.0.0.1:${port}` })),
)
