/**
 * The product's parts around the fixtures: its middleware and its endpoint, and beside them the session-keeping route
 * of the older era, which the product does not have and a few old scenarios need.
 */
import { randomUUID } from 'node:crypto'
import { isLegacyRequest, WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/server'
import { loadConfig } from '../../src/config/config.ts'
import { createParts } from '../../src/parts.ts'
import { createLogger } from '../../src/telemetry/log.ts'
import { createMcpEndpoint, type McpEndpoint } from '../../src/transports/mcp.ts'
import { createFixtureServer } from './fixtures.ts'

export async function createConformanceParts() {
  const sessions = new Map<string, WebStandardStreamableHTTPServerTransport>()
  const config = loadConfig(process.env)
  const parts = await createParts({
    config,
    log: createLogger({ level: config.logLevel }),
    mcpEndpoint: (mcpParts) => withSessions(createMcpEndpoint(mcpParts, createFixtureServer)),
  })
  parts.app.on(['GET', 'DELETE'], '/mcp', async (c) => await inSession(c.req.raw))
  return { config, parts }

  function withSessions(endpoint: McpEndpoint): McpEndpoint {
    return {
      async fetch(request, options) {
        const { body } = options
        const isInitialize = (body as { method?: unknown } | null)?.method === 'initialize'
        const hasSession = request.headers.has('mcp-session-id')
        if ((isInitialize || hasSession) && (await isLegacyRequest(request, body)))
          return await inSession(request, body)
        return await endpoint.fetch(request, options)
      },
      async close() {
        await Promise.all([...sessions.values()].map((session) => session.close()))
        await endpoint.close()
      },
    }
  }

  async function inSession(request: Request, parsedBody?: unknown): Promise<Response> {
    const id = request.headers.get('mcp-session-id')
    const known = sessions.get(id ?? '')
    if (known) return await known.handleRequest(request, { parsedBody })
    if (id !== null) return new Response('There is no such session.\n', { status: 404 })
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (session) => void sessions.set(session, transport),
      onsessionclosed: (session) => void sessions.delete(session),
    })
    await createFixtureServer().connect(transport)
    return await transport.handleRequest(request, { parsedBody })
  }
}
