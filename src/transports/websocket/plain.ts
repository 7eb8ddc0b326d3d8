/** The plain dialect of `/ws`: small JSON messages instead of MCP, for applications that offer no subprotocol. */
import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { type AppError, toAppError } from '../../errors.ts'
import { parseInput, type ToolCaller, type ToolContext } from '../../tools/tool.ts'

const messageId = z.union([z.string().max(200), z.number()]).optional()
const plainMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ping'), id: messageId }),
  z.object({ type: z.literal('list_tools'), id: messageId }),
  z.object({
    type: z.literal('execute_tool'),
    tool: z.string().min(1).max(100),
    params: z.record(z.string(), z.unknown()).optional(),
    id: messageId,
  }),
])
type PlainId = z.output<typeof messageId>
type ToolMessage = Extract<z.output<typeof plainMessage>, { type: 'execute_tool' }>

/** The connection that a plain message came over. */
export interface PlainConnection {
  readonly toolCaller: ToolCaller
  /** The caller and request id that tools get. */
  readonly asking: Pick<ToolContext, 'caller' | 'requestId'>
  /** Counts the message. @throws AppError `rate_limited`. */
  charge(): void
  /** Registers a call, which the connection aborts when the peer is gone. @throws AppError `rate_limited`. */
  begin(call: AbortController): void
  /** Says when the answer of a call is sent, or never will be. */
  onSent(call: AbortController, done: () => void): void
  /** Sends the answer of a call and ends it. */
  answer(call: AbortController, message: object): void
  send(message: object): void
}

/** The first message of a connection. */
export function greeting() {
  return { type: 'connection', sessionId: randomUUID(), timestamp: new Date().toISOString() }
}

/** An error as a plain message. */
export function plainError(error: AppError, id?: PlainId) {
  const { message, ...rest } = error.toPublic()
  return { type: 'error', error: message, ...rest, id }
}

/** Answers a message, at once or when its tool is done. It sends errors instead of throwing them. */
export function answerPlain(received: unknown, connection: PlainConnection): void {
  try {
    connection.charge()
    const message = parseInput(plainMessage, received)
    const { type, id } = message
    if (type === 'ping') connection.send({ type: 'pong', timestamp: new Date().toISOString(), id })
    else if (type === 'list_tools') {
      const tools = [...connection.toolCaller.tools.values()].map(({ listing }) => listing)
      connection.send({ type: 'tools', data: tools, id })
    } else {
      const call = new AbortController()
      connection.begin(call)
      void execute(message, call, connection)
    }
  } catch (error) {
    const { id } = z.object({ id: messageId }).safeParse(received).data ?? {}
    connection.send(plainError(toAppError(error), id))
  }
}

async function execute(
  { tool, params, id }: ToolMessage,
  call: AbortController,
  connection: PlainConnection,
): Promise<void> {
  const onSent = (done: () => void) => connection.onSent(call, done)
  try {
    const context = { ...connection.asking, signal: call.signal, onSent }
    const { structured, content } = await connection.toolCaller.call(tool, params, context)
    connection.answer(call, { type: 'tool_result', tool, data: structured, content, id })
  } catch (error) {
    connection.answer(call, plainError(toAppError(error), id))
  }
}
