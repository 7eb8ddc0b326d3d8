/** Pictures over `/ws`: one connection, one picture; plain messages, or MCP by the subprotocol `mcp`. */
import { clearTimeout, setTimeout } from 'k6/timers'
import { WebSocket } from 'k6/websockets'
import { baseUrl, imageRequest, TIMEOUT_SECONDS } from './ask.ts'
import { AUTHORIZATION } from './environment.ts'
import { deadlineOf, INITIALIZE, type RpcAnswer, toolPicture } from './mcp.ts'
import {
  type ErrorAnswer,
  failed,
  type ImageAnswer,
  type Outcome,
  outcomeOfAnswer,
  outcomeOfError,
} from './outcome.ts'
import { readPicture } from './rest.ts'

/** Sends a message and resolves with the answer to it. */
type Exchange = (message: object) => Promise<unknown>

/** A plain message's answer. */
interface PlainAnswer {
  readonly type: string
  readonly data?: ImageAnswer
  readonly error?: string
}

/** The application's protocol: `execute_tool`, answered by `tool_result` or `error`. */
export function websocketPicture(): Promise<Outcome> {
  const base = baseUrl()
  return converse(base, undefined, async (exchange) => {
    const call = (tool: string, args: object) =>
      exchange({ type: 'execute_tool', tool, params: args }) as Promise<PlainAnswer & ErrorAnswer>
    let answer = await call('generate_image', imageRequest())
    while (answer.data?.state === 'queued' || answer.data?.state === 'running')
      answer = await call('get_image_job', { job_id: answer.data.job_id })
    if (answer.type === 'error')
      return outcomeOfError({ ...answer, message: answer.error ?? '' }, answer.retry_after_seconds)
    return outcomeOfAnswer(answer.data, (told) => readPicture(base, told))
  })
}

/** MCP 2025-11-25 with its handshake. */
export function websocketMcpPicture(): Promise<Outcome> {
  const base = baseUrl()
  return converse(base, 'mcp', async (exchange) => {
    const rpc = (method: string, params: object) =>
      exchange({ jsonrpc: '2.0', method, params }) as Promise<RpcAnswer>
    await rpc('initialize', INITIALIZE)
    return toolPicture(
      (name, args) => rpc('tools/call', { name, arguments: args, _meta: deadlineOf(name) }),
      base,
    )
  })
}

/** Opens a connection for `talk`, and closes it afterwards; a connection that ends before is a failure. */
function converse(
  base: string,
  protocol: 'mcp' | undefined,
  talk: (exchange: Exchange) => Promise<Outcome>,
): Promise<Outcome> {
  return new Promise((resolve) => {
    // k6 offers the protocols, although its types still say that it ignores them.
    const socket = new WebSocket(`${base.replace(/^http/, 'ws')}/ws`, (protocol ? [protocol] : []) as never, {
      headers: AUTHORIZATION,
    })
    const waiting = new Map<unknown, (answer: unknown) => void>()
    let lastId = 0
    const end = (outcome: Outcome) => {
      clearTimeout(timeout)
      resolve(outcome)
      socket.close()
    }
    const timeout = setTimeout(() => end(failed('no answer in time')), (TIMEOUT_SECONDS + 10) * 1000)
    const exchange: Exchange = (message) => {
      lastId += 1
      const id = lastId
      socket.send(JSON.stringify({ ...message, id }))
      return new Promise((answered) => {
        waiting.set(id, answered)
      })
    }
    socket.onopen = () => {
      talk(exchange).then(end, (error) => end(failed(String(error))))
    }
    socket.onmessage = (event) => {
      let answer: { id?: unknown }
      try {
        answer = JSON.parse(String(event?.data))
      } catch (error) {
        end(failed(`websocket: ${error}`))
        return
      }
      waiting.get(answer.id)?.(answer)
      waiting.delete(answer.id)
    }
    socket.onerror = (event) => end(failed(`websocket: ${event?.error}`))
    socket.onclose = () => end(failed('websocket: the server closed the connection'))
  })
}
