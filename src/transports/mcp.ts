/** MCP in both protocol eras, over HTTP and stdio. Turns protocol messages into tool calls. */
import {
  CLIENT_CAPABILITIES_META_KEY,
  createMcpHandler,
  type McpRequestContext,
  ProtocolError,
  ProtocolErrorCode,
  ResourceNotFoundError,
  SdkError,
  SdkErrorCode,
  Server,
  type ServerContext,
} from '@modelcontextprotocol/server'
import { z } from 'zod'
import { requireScope, type Scope } from '../auth/scopes.ts'
import { AppError, clientLeft, rpcError, toAppError } from '../errors.ts'
import type { Logger } from '../telemetry/log.ts'
import type { AnswerContext } from '../tools/image/image-answer.ts'
import { imageTemplate, listImageResources, readImageResource } from '../tools/image/resource.ts'
import { getPrompt, PROMPTS } from '../tools/prompts.ts'
import { idempotencyKeySchema, META, parseInput, type ToolCaller, type ToolContext } from '../tools/tool.ts'
import { type Asking, askingOf, authInfoOf } from './auth-info.ts'
import { METHOD_SCOPES } from './method-scopes.ts'
import { asTask, declaresTasks, serveTasks, TASK_WAIT_MS, TASKS_EXTENSION, type TaskParts } from './tasks.ts'

/** How often a silent stream sends something, in milliseconds, because proxies and hosts drop silent connections. */
export const KEEP_ALIVE_MS = 15_000

/** Lists change only when the server restarts with another configuration; milliseconds. */
const LIST_TTL_MS = 60_000

export interface McpParts extends TaskParts {
  readonly toolCaller: ToolCaller
  readonly version: string
  readonly log: Logger
}

/**
 * A factory of protocol servers, one per HTTP request or stdio connection. It uses the SDK's low-level `Server`, because
 * the tools have their own validation, error codes and schemas, prepared once instead of per request.
 */
export function createMcpServerFactory(parts: McpParts): (context: McpRequestContext) => Server {
  const { toolCaller, images, outgoing, version } = parts
  const tools = [...toolCaller.tools.values()].map(({ listing }) => listing)
  const instructions = [
    'Makes pictures from text with generate_image. A picture that takes long is answered with a job_id: wait for it with get_image_job.',
    ...(toolCaller.tools.has('trino_execute_query')
      ? ['Explores Trino with trino_list_catalogs and its siblings, and queries it with trino_execute_query.']
      : []),
  ].join(' ')

  return ({ authInfo }) => {
    const asking = askingOf(authInfo)
    const { caller } = asking
    const server = new Server(
      { name: 'diffusers-mcp', title: 'Diffusers MCP', version },
      {
        capabilities: { tools: {}, resources: {}, prompts: {}, extensions: { [TASKS_EXTENSION]: {} } },
        instructions,
        cacheHints: {
          'tools/list': { ttlMs: LIST_TTL_MS, cacheScope: 'public' },
          'prompts/list': { ttlMs: LIST_TTL_MS, cacheScope: 'public' },
          'resources/templates/list': { ttlMs: LIST_TTL_MS, cacheScope: 'public' },
        },
      },
    )
    server.setRequestHandler('tools/list', () => ({ tools: tools as never }))
    server.setRequestHandler('tools/call', async ({ params }, context) => {
      if (!toolCaller.tools.has(params.name))
        throw new ProtocolError(
          ProtocolErrorCode.InvalidParams,
          `There is no tool ${JSON.stringify(params.name)}; tools/list names them.`,
        )
      try {
        // Only a caller that may ask for a task afterwards can use one.
        const tasks =
          caller.scopes.has(METHOD_SCOPES['tasks/get']) &&
          declaresTasks(
            (context.mcpReq.envelope as Record<string, unknown> | undefined)?.[CLIENT_CAPABILITIES_META_KEY],
          )
        const result = await toolCaller.call(params.name, params.arguments, {
          ...toolContext(context, asking),
          waitMs: tasks ? TASK_WAIT_MS : undefined,
        })
        const task = tasks ? await asTask(result, caller, parts) : undefined
        if (task) return task as never
        return { content: [...result.content], structuredContent: result.structured }
      } catch (error) {
        return errorResult(toAppError(error))
      }
    })
    serveTasks(server, caller, parts, (context) => answerContext(context, asking))
    server.setRequestHandler('resources/templates/list', () => ({ resourceTemplates: [imageTemplate] }))
    server.setRequestHandler('resources/list', async () => {
      asProtocolError(() => requireScope(caller, METHOD_SCOPES['resources/list']))
      return { resources: await listImageResources({ images, caller }) }
    })
    server.setRequestHandler('resources/read', async ({ params: { uri } }, context) => {
      asProtocolError(() => requireScope(caller, METHOD_SCOPES['resources/read']))
      const { onSent } = answerContext(context, asking)
      const content = await readImageResource({ images, outgoing, caller, uri, onSent }).catch(throwRpcError)
      if (!content) throw new ResourceNotFoundError(uri)
      return { contents: [content] }
    })
    server.setRequestHandler('prompts/list', () => ({ prompts: PROMPTS }))
    server.setRequestHandler('prompts/get', ({ params }) => {
      const prompt = asProtocolError(() => getPrompt(params.name, params.arguments))
      if (!prompt)
        throw new ProtocolError(
          ProtocolErrorCode.InvalidParams,
          `There is no prompt ${JSON.stringify(params.name)}.`,
        )
      return prompt
    })
    return server
  }
}

/**
 * The scope that a message needs. HTTP checks it before the answer begins, because clients get a better token only when
 * the status is 403 (MCP 2025-11-25, "Scope Challenge Handling"). Other transports put the same error into the answer.
 */
function scopeOf(body: unknown, { tools }: ToolCaller): Scope | undefined {
  const message = scoped.safeParse(body).data
  if (message?.method === 'tools/call') return tools.get(message.params.name)?.scope
  return message && METHOD_SCOPES[message.method]
}
const scoped = z.discriminatedUnion('method', [
  z.object({ method: z.literal('tools/call'), params: z.object({ name: z.string() }) }),
  z.object({ method: z.enum(Object.keys(METHOD_SCOPES) as (keyof typeof METHOD_SCOPES)[]) }),
])

/** `/mcp`. It takes the parsed body, whose size was checked before. */
export interface McpEndpoint {
  fetch(request: Request, options: { body: unknown } & Required<Asking>): Promise<Response>
  close(): Promise<void>
}

/** The Streamable HTTP endpoint. Slow tools open a stream at once, so that keep-alives can be sent. */
export function createMcpEndpoint(parts: McpParts, factory = createMcpServerFactory(parts)): McpEndpoint {
  const onerror = (error: Error) => parts.log.debug({ event: 'mcp', message: error.message })
  const make = (responseMode: 'sse' | 'auto') =>
    createMcpHandler(factory, { responseMode, keepAliveMs: KEEP_ALIVE_MS, onerror })
  const streamed = make('sse')
  const plain = make('auto')
  return {
    async fetch(request, { body, ...asking }) {
      if (Array.isArray(body))
        throw new AppError(
          'invalid_request',
          'JSON-RPC batches are not accepted: send one message per request.',
        )
      const scope = scopeOf(body, parts.toolCaller)
      if (scope) requireScope(asking.caller, scope)
      // The header must agree with the body in the current era, else the handler refuses the request.
      const slow = parts.toolCaller.tools.get(request.headers.get('mcp-name') ?? '')?.slow ?? false
      const authInfo = authInfoOf(asking)
      const answer = await (slow ? streamed : plain).fetch(request, { parsedBody: body, authInfo })
      // The SDK answers 500 where the connection closed before there was an answer.
      if (request.signal.aborted) throw asking.reasonOfClosing()
      return answer
    },
    async close() {
      await Promise.all([streamed.close(), plain.close()])
    },
  }
}

const DEADLINE = `${META}/deadlineMs`
const IDEMPOTENCY_KEY = `${META}/idempotencyKey`
const ownMeta = z.object({
  [DEADLINE]: z.int().min(1).max(86_400_000).optional(),
  [IDEMPOTENCY_KEY]: idempotencyKeySchema.optional(),
})

/** The SDK's signal, with an AppError as its reason. */
function callSignal(signal: AbortSignal, { reasonOfClosing = clientLeft }: Asking): AbortSignal {
  const ended = new AbortController()
  const abort = () => {
    const { reason } = signal
    const isClosed = reason instanceof SdkError && reason.code === SdkErrorCode.ConnectionClosed
    ended.abort(isClosed ? reasonOfClosing() : new AppError('cancelled', 'The client cancelled the call.'))
  }
  if (signal.aborted) abort()
  else signal.addEventListener('abort', abort, { once: true })
  return ended.signal
}

/** What the answer to a call needs to know of it. */
function answerContext({ mcpReq }: ServerContext, asking: Asking): AnswerContext {
  const { caller, onSent } = asking
  return {
    caller,
    signal: callSignal(mcpReq.signal, asking),
    onSent: onSent && ((done) => onSent(mcpReq.id, done)),
  }
}

function toolContext(context: ServerContext, asking: Asking): ToolContext {
  const { requestId } = asking
  const { _meta, id, notify } = context.mcpReq
  const { [DEADLINE]: deadlineMs, [IDEMPOTENCY_KEY]: idempotencyKey } = parseInput(ownMeta, _meta ?? {}) as {
    [DEADLINE]?: number
    [IDEMPOTENCY_KEY]?: string
  }
  const progressToken = _meta?.progressToken
  return {
    ...answerContext(context, asking),
    requestId: requestId ?? String(id),
    deadlineMs,
    idempotencyKey,
    onProgress:
      progressToken === undefined
        ? undefined
        : (progress) => {
            // Nothing reaches a caller that is gone. The call's own signal ends the work.
            notify({ method: 'notifications/progress', params: { progressToken, ...progress } }).catch(
              () => {},
            )
          },
  }
}

/** An error as a tool result. It has no structured content, which older SDKs would validate and throw. */
function errorResult(error: AppError) {
  const { code, message, retry_after_seconds } = error.toPublic()
  const retry = retry_after_seconds === undefined ? '' : ` Retry after ${retry_after_seconds} s.`
  return {
    isError: true,
    content: [{ type: 'text' as const, text: `${code}: ${message}${retry}` }],
    _meta: { [`${META}/error`]: error.toPublic() },
  }
}

/** The code of the server's own errors, as in `rpcError`; `data` has what a client needs. */
function throwRpcError(thrown: unknown): never {
  const { error } = rpcError(toAppError(thrown))
  throw new ProtocolError(error.code, error.message, error.data)
}

function asProtocolError<T>(make: () => T): T {
  try {
    return make()
  } catch (error) {
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, toAppError(error).message)
  }
}
