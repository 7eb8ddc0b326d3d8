/** Tools: their definition, and the caller that all transports share. */
import { z } from 'zod'
import type { Caller } from '../auth/caller.ts'
import { requireScope, type Scope } from '../auth/scopes.ts'
import { AppError, quote, toAppError } from '../errors.ts'
import type { OnSent } from '../images/outgoing.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'

/** Content blocks of MCP that the tools use. */
export type ContentBlock =
  | { type: 'text'; text: string }
  | { type: 'image'; data: string; mimeType: string }
  | { type: 'resource_link'; uri: string; name: string; title?: string; mimeType?: string; size?: number }

export interface ToolResult<Output> {
  /** Matches the tool's output schema. */
  readonly structured: Output
  readonly content: readonly ContentBlock[]
}

/** Progress as MCP reports it. `progress` never decreases. */
export interface ToolProgress {
  readonly progress: number
  readonly total?: number
  readonly message: string
}

/** Idempotency keys, over every transport. */
export const idempotencyKeySchema = z
  .string()
  .regex(/^[\x21-\x7e]{1,200}$/, 'must be 1-200 printable ASCII characters without spaces')

export interface ToolContext {
  readonly caller: Caller
  /**
   * Aborted when the caller closed the connection (`client_left`) or cancelled the call, or when the server ended it. The
   * reason is an AppError.
   */
  readonly signal: AbortSignal
  readonly requestId: string
  /** Says when the answer has left. Absent on stdio, where one client has the whole process. */
  readonly onSent?: OnSent
  /** Milliseconds after which the result is of no use; absent: the server's default. */
  readonly deadlineMs?: number
  /** How long this call may wait, in milliseconds; absent: the server's wait budget. */
  readonly waitMs?: number
  /** A retry with the same key joins the work of the first request; not where callers cannot be told apart. */
  readonly idempotencyKey?: string
  /** Present where the caller asked for progress. */
  readonly onProgress?: (progress: ToolProgress) => void
}

export interface ToolDefinition<Input extends z.ZodObject, Output extends z.ZodObject> {
  readonly name: string
  readonly title: string
  /** Written for the model that chooses the tool. */
  readonly description: string
  /** The scope that a call needs. */
  readonly scope: Scope
  readonly annotations: {
    readonly readOnlyHint: boolean
    readonly destructiveHint: boolean
    readonly idempotentHint: boolean
    readonly openWorldHint: boolean
  }
  /** Strict: unknown fields are refused. */
  readonly input: Input
  readonly output: Output
  /** A call may take long, so it answers over a stream with keep-alive. */
  readonly slow?: true
  run(input: z.output<Input>, context: ToolContext): Promise<ToolResult<z.output<Output>>>
}

/** A tool with its schemas as JSON Schema, ready for `tools/list`. */
export interface Tool {
  readonly name: string
  readonly scope: Scope
  readonly slow: boolean
  /** The entry of `tools/list`. */
  readonly listing: Readonly<Record<string, unknown>>
  /** @throws AppError `invalid_request` that names every wrong argument, or what the tool throws. */
  call(args: unknown, context: ToolContext): Promise<ToolResult<Record<string, unknown>>>
}

/** Prefix of this product's own `_meta` keys. */
export const META = 'io.github.diffusers-mcp'
/** The scope of a tool in `tools/list`. Every caller sees all tools, so that hosts can ask for a missing scope. */
const SCOPE_META = `${META}/scope`

/** Makes a tool from its definition. */
export function defineTool<Input extends z.ZodObject, Output extends z.ZodObject>(
  definition: ToolDefinition<Input, Output>,
): Tool {
  const { name, title, description, scope, annotations, input, output } = definition
  return {
    name,
    scope,
    slow: definition.slow ?? false,
    listing: {
      name,
      title,
      description,
      inputSchema: z.toJSONSchema(input, { io: 'input' }),
      outputSchema: z.toJSONSchema(output, { io: 'output' }),
      annotations: { title, ...annotations },
      _meta: { [SCOPE_META]: scope },
    },
    call: (args, context) => definition.run(parseInput(input, args ?? {}), context),
  }
}

/**
 * Parses a value from outside.
 * @throws AppError `invalid_request` with one clause per problem: the field, what is allowed, and the value.
 */
export function parseInput<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value, { reportInput: true })
  if (parsed.success) return parsed.data
  const clauses = parsed.error.issues.map((issue) => {
    const field = issue.path.join('.')
    if (issue.code === 'unrecognized_keys')
      return `${issue.keys.map(quote).join(', ')} ${issue.keys.length === 1 ? 'is not a parameter' : 'are not parameters'} here`
    if (issue.input === undefined && field) return `${field} is missing`
    const message = issue.message.startsWith(field) ? issue.message.slice(field.length).trim() : issue.message
    return `${field ? `${field}: ` : ''}${message} (got ${quote(issue.input)})`
  })
  throw new AppError('invalid_request', `${clauses.join('; ')}.`)
}

export interface ToolCaller {
  readonly tools: ReadonlyMap<string, Tool>
  /** Calls a tool by name. @throws AppError, always; unknown errors arrive as `internal`. */
  call(name: string, args: unknown, context: ToolContext): Promise<ToolResult<Record<string, unknown>>>
}

/** Calls tools by name. Checks scopes, counts every call and logs unexpected failures. */
export function createToolCaller(options: {
  readonly tools: readonly Tool[]
  readonly log: Logger
  readonly metrics: Metrics
}): ToolCaller {
  const { log, metrics } = options
  const tools = new Map(options.tools.map((tool) => [tool.name, tool]))
  return {
    tools,
    async call(name, args, context) {
      const tool = tools.get(name)
      if (!tool)
        throw new AppError(
          'not_found',
          `There is no tool ${quote(name)}; there are ${[...tools.keys()].join(', ')}.`,
        )
      try {
        requireScope(context.caller, tool.scope)
        const result = await tool.call(args, context)
        metrics.toolCalls.inc({ tool: name, outcome: 'ok' })
        return result
      } catch (thrown) {
        const error = toAppError(thrown, context.signal)
        metrics.toolCalls.inc({ tool: name, outcome: error.code })
        if (error.isForOperator)
          log.error({ event: 'tool failed', tool: name, request_id: context.requestId, err: error.cause })
        throw error
      }
    },
  }
}
