/** Pictures over MCP's Streamable HTTP in both eras; plain HTTP, so that the client adds next to nothing. */
import encoding from 'k6/encoding'
import http, { type RefinedResponse } from 'k6/http'
import { baseUrl, imageRequest, TIMEOUT_SECONDS } from './ask.ts'
import { AUTHORIZATION } from './environment.ts'
import { mcpIsError } from './metrics.ts'
import {
  type ErrorAnswer,
  failed,
  type ImageAnswer,
  type Outcome,
  outcomeOfAnswer,
  outcomeOfError,
} from './outcome.ts'
import { params, readPicture } from './rest.ts'

const META = 'io.github.diffusers-mcp'
const CURRENT = '2026-07-28'
const OLDER = '2025-11-25'
export const CLIENT_INFO = { name: 'diffusers-mcp-loadtest', version: '1' }
export const INITIALIZE = { protocolVersion: OLDER, capabilities: {}, clientInfo: CLIENT_INFO }

const HEADERS = {
  'Content-Type': 'application/json',
  Accept: 'application/json, text/event-stream',
  ...AUTHORIZATION,
}

/** A tool's result, as far as it is used here. */
export interface ToolResult {
  readonly isError?: boolean
  readonly structuredContent?: ImageAnswer
  readonly content?: readonly { readonly type: string; readonly mimeType?: string; readonly data?: string }[]
  readonly _meta?: Record<string, unknown>
}
export interface RpcAnswer {
  readonly id?: unknown
  readonly result?: ToolResult
  readonly error?: { readonly message: string; readonly data?: ErrorAnswer }
}

/** Calls a tool; what is no answer at all comes as an `error` without a code. */
type CallTool = (name: string, args: object) => RpcAnswer | Promise<RpcAnswer>

/** `generate_image` by whatever carries the calls; a handle is followed with get_image_job. */
export async function toolPicture(call: CallTool, base: string): Promise<Outcome> {
  let answer = await call('generate_image', imageRequest())
  for (;;) {
    const { job_id, state } = answer.result?.structuredContent ?? {}
    if (state !== 'queued' && state !== 'running') break
    answer = await call('get_image_job', { job_id })
  }
  const { result, error } = answer
  mcpIsError.add(result?.isError === true)
  if (error) return outcomeOfError(error.data ?? { message: error.message }, error.data?.retry_after_seconds)
  if (result?.isError) {
    const told = (result._meta?.[`${META}/error`] ?? {}) as ErrorAnswer
    return outcomeOfError(told, told.retry_after_seconds)
  }
  return outcomeOfAnswer(result?.structuredContent, (told) => {
    const inline = result?.content?.find(({ type }) => type === 'image')
    if (!inline?.data) return 'no picture in the result'
    // Large ones come as a WebP preview; the whole PNG is where the link leads.
    return inline.mimeType === 'image/png' ? encoding.b64decode(inline.data) : readPicture(base, told)
  })
}

/** 2026-07-28: no session, everything in the request. */
export function mcpPicture(): Promise<Outcome> {
  const base = baseUrl()
  return toolPicture((name, args) => {
    const _meta = {
      'io.modelcontextprotocol/protocolVersion': CURRENT,
      'io.modelcontextprotocol/clientInfo': CLIENT_INFO,
      'io.modelcontextprotocol/clientCapabilities': {},
      ...deadlineOf(name),
    }
    const headers = { 'MCP-Protocol-Version': CURRENT, 'Mcp-Method': 'tools/call', 'Mcp-Name': name }
    return rpc(base, 'tools/call', { name, arguments: args, _meta }, headers)
  }, base)
}

/** The replicas with which this VU has shaken hands, and the headers of the session. */
const sessions: Record<string, Record<string, string>> = {}

/** 2025-11-25: `initialize` once for each VU and replica, which the first call's time includes. */
export function olderMcpPicture(): Promise<Outcome> {
  const base = baseUrl()
  const session = sessions[base] ?? initialize(base)
  if (typeof session === 'string') return Promise.resolve(failed(session))
  sessions[base] = session
  return toolPicture(
    (name, args) => rpc(base, 'tools/call', { name, arguments: args, _meta: deadlineOf(name) }, session),
    base,
  )
}

/** The headers of what follows, or why there are none. */
function initialize(base: string): Record<string, string> | string {
  const response = post(base, { jsonrpc: '2.0', id: 0, method: 'initialize', params: INITIALIZE }, {})
  if (response.status !== 200) return `initialize: HTTP ${response.status} ${response.error}`
  const session = response.headers['Mcp-Session-Id']
  const headers = { 'MCP-Protocol-Version': OLDER, ...(session ? { 'Mcp-Session-Id': session } : {}) }
  post(base, { jsonrpc: '2.0', method: 'notifications/initialized' }, headers)
  return headers
}

export const deadlineOf = (tool: string) =>
  tool === 'generate_image' ? { [`${META}/deadlineMs`]: TIMEOUT_SECONDS * 1000 } : {}

function rpc(base: string, method: string, rpcParams: object, headers: Record<string, string>): RpcAnswer {
  const response = post(base, { jsonrpc: '2.0', id: 1, method, params: rpcParams }, headers)
  if (response.status === 0) return { error: { message: `no answer: ${response.error}` } }
  const text = (response.body as string | null) ?? ''
  // An answer is one JSON-RPC message, alone or as the last event of a stream.
  const event = text.lastIndexOf('\ndata: {')
  try {
    return JSON.parse(event < 0 ? text : text.slice(event + '\ndata: '.length)) as RpcAnswer
  } catch {
    return { error: { message: `HTTP ${response.status} without JSON-RPC: ${text.slice(0, 100)}` } }
  }
}

function post(base: string, message: object, headers: Record<string, string>): RefinedResponse<'text'> {
  return http.post(
    `${base}/mcp`,
    JSON.stringify(message),
    params('POST /mcp', { ...HEADERS, ...headers }),
  ) as RefinedResponse<'text'>
}
