/** MCP clients as they are in the field: the old SDK, and the current one in both protocol eras. */
import { Client as CurrentClient, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import { Client as OldClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport as OldStdio } from '@modelcontextprotocol/sdk/client/stdio.js'
import { StreamableHTTPClientTransport as OldHttp } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { cleanEnv, commandFor, type Engine } from './process.ts'

/** What a test needs of a client, whichever it is. */
export interface AnyClient {
  listTools(): Promise<{ tools: { name: string; [key: string]: unknown }[] }>
  callTool(
    params: { name: string; arguments?: Record<string, unknown>; _meta?: Record<string, unknown> },
    options?: { signal?: AbortSignal; onprogress?: (progress: Progress) => void; timeout?: number },
  ): Promise<CallResult>
  readResource(params: {
    uri: string
  }): Promise<{ contents: { uri: string; mimeType?: string; blob?: string }[] }>
  listResourceTemplates(): Promise<{ resourceTemplates: { uriTemplate: string }[] }>
  listPrompts(): Promise<{ prompts: { name: string }[] }>
  getPrompt(params: { name: string; arguments?: Record<string, string> }): Promise<{ messages: unknown[] }>
  close(): Promise<void>
}

export interface Progress {
  progress: number
  total?: number
  message?: string
}

export interface CallResult {
  content: { type: string; text?: string; data?: string; mimeType?: string; uri?: string }[]
  structuredContent?: Record<string, unknown>
  isError?: boolean
  _meta?: Record<string, unknown>
}

/** The result of a call for a picture, however long it takes: a handle is followed. */
export async function drawn(
  client: AnyClient,
  params: Parameters<AnyClient['callTool']>[0],
): Promise<CallResult> {
  let result = await client.callTool(params)
  while (['queued', 'running'].includes(String(result.structuredContent?.state)))
    result = await client.callTool({
      name: 'get_image_job',
      arguments: { job_id: result.structuredContent?.job_id },
    })
  return result
}

export type Connect = (options: {
  url: string
  token?: string
  env: Record<string, string>
}) => Promise<AnyClient>

const INFO = { name: 'test', version: '1' }
const MODERN = { mode: { pin: '2026-07-28' } } as const

const headers = (token?: string) => (token ? { headers: { authorization: `Bearer ${token}` } } : {})

/** The old client takes a result schema between parameters and options; absent it uses its own. */
function adapt(client: OldClient): AnyClient {
  const callTool = client.callTool.bind(client)
  return Object.assign(client, {
    callTool: (params: never, options: never) => callTool(params, undefined, options),
  }) as unknown as AnyClient
}

/** Every client over HTTP. */
export const HTTP_CLIENTS: Record<string, Connect> = {
  async 'old SDK, 2025-11-25'({ url, token }) {
    const client = new OldClient(INFO)
    await client.connect(new OldHttp(new URL('/mcp', url), { requestInit: headers(token) }) as never)
    return adapt(client)
  },
  async 'current SDK, older era'({ url, token }) {
    const client = new CurrentClient(INFO)
    await client.connect(
      new StreamableHTTPClientTransport(new URL('/mcp', url), { requestInit: headers(token) }),
    )
    return client as unknown as AnyClient
  },
  async 'current SDK, 2026-07-28'({ url, token }) {
    const client = new CurrentClient(INFO, { versionNegotiation: MODERN })
    await client.connect(
      new StreamableHTTPClientTransport(new URL('/mcp', url), { requestInit: headers(token) }),
    )
    return client as unknown as AnyClient
  },
}

/** Every client over stdio, each with a server process of its own. */
export function stdioClients(engine: Engine): Record<string, Connect> {
  const server = (env: Record<string, string>) => ({
    ...commandFor(engine, 'src/main.stdio.ts'),
    env: cleanEnv(env),
    stderr: 'ignore' as const,
  })
  return {
    async 'old SDK over stdio'({ env }) {
      const client = new OldClient(INFO)
      await client.connect(new OldStdio(server(env)))
      return adapt(client)
    },
    async 'current SDK over stdio, 2026-07-28'({ env }) {
      const client = new CurrentClient(INFO, { versionNegotiation: MODERN })
      await client.connect(new StdioClientTransport(server(env)))
      return client as unknown as AnyClient
    },
  }
}
