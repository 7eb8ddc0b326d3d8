/**
 * `/ws`, whichever engine's socket it is: MCP in both eras where the client offers the subprotocol `mcp`, and a
 * greeting with plain messages for applications that offer none. Protocol, limits and timers are here; the engines'
 * sockets are in websocket.node.ts and websocket.deno.ts.
 */
import { randomUUID } from 'node:crypto'
import { setInterval, setTimeout } from 'node:timers'
import {
  isJSONRPCErrorResponse,
  isJSONRPCRequest,
  isJSONRPCResultResponse,
  type JSONRPCMessage,
  type McpRequestContext,
  parseJSONRPCMessage,
  type RequestId,
  type Server,
  type Transport,
} from '@modelcontextprotocol/server'
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import type { Context } from 'hono'
import { z } from 'zod'
import type { Authenticate } from '../auth/authenticate.ts'
import type { Caller } from '../auth/caller.ts'
import type { RateLimit } from '../auth/rate-limit.ts'
import { AppError, toAppError } from '../errors.ts'
import type { Logger } from '../telemetry/log.ts'
import { parseInput, type ToolCaller } from '../tools/tool.ts'
import { parseJson } from './body.ts'
import type { AppEnv } from './context.ts'
import { authInfoOf } from './mcp.ts'
import { peerAddress } from './peer.ts'

/** How often timers are looked at, and how long a closing handshake may take, in milliseconds. */
const TICK_MS = 1000
const CLOSING_MS = 2000

/** RFC 6455, section 7.4, and its registry. */
const CLOSE = {
  idle: [1001, 'No message for too long.'],
  binary: [1003, 'Send text frames.'],
  expired: [1008, 'The token has expired or was withdrawn.'],
  tooBig: [1009, 'The message is too big.'],
  restart: [1012, 'The server restarts; connect again.'],
  slowReader: [1013, 'Answers are not read as fast as they are asked for.'],
} as const
type CloseReason = keyof typeof CLOSE

/** A connection as its engine offers it. */
export interface Socket {
  /** Bytes that the network has not taken yet. */
  readonly bufferedAmount: number
  send(text: string): void
  close(code: number, reason: string): void
  /** Ends without a handshake; absent where the engine does so itself when a peer does not answer. */
  terminate?(): void
  /** Absent where the engine pings on its own. */
  ping?(): void
}

/** What the adapter tells of its socket. */
export interface Connection {
  /** A message; undefined: a binary one. */
  received(text: string | undefined): void
  ponged(): void
  /** The socket is gone. */
  closed(): void
}

/** What was found out about a connection before it was opened. */
export interface Opening {
  readonly caller: Caller
  readonly authorization: string | undefined
  readonly address: string | undefined
  readonly requestId: string
  /** The subprotocol to answer with; absent: none was offered. */
  readonly protocol: 'mcp' | undefined
}

/** What an adapter hands to the app beside an upgrade request: called when the connection may be opened. */
export interface UpgradeBindings {
  readonly upgrade?: (opening: Opening) => void
}

export interface WebSocketLimits {
  readonly pingMs: number
  readonly idleMs: number
  readonly maxMessageBytes: number
  /** Calls in flight per connection. */
  readonly maxCalls: number
  /** What a slow reader can make this process hold, per connection. */
  readonly maxBufferedBytes: number
}

export interface WebSocketParts {
  readonly serverFactory: (context: McpRequestContext) => Server
  readonly toolCaller: ToolCaller
  readonly authenticate: Authenticate
  readonly rateLimit: RateLimit
  readonly limits: WebSocketLimits
  readonly log: Logger
  /** Milliseconds since 1970. */
  readonly now?: () => number
}

export interface WebSockets {
  readonly limits: WebSocketLimits
  /** Open connections. */
  readonly size: number
  /**
   * The route's handler, behind all middleware.
   * @throws AppError `invalid_request` for what is no upgrade, `overloaded` while draining.
   */
  accept(c: Context<AppEnv>): Response
  open(socket: Socket, opening: Opening): Connection
  /**
   * Takes no more connections, and closes those that wait for nothing, the others when their calls are answered, or
   * after `timeoutMs`; resolves when all are gone.
   */
  drain(options: { timeoutMs: number }): Promise<void>
  close(): Promise<void>
}

/**
 * The token that a browser sends as a subprotocol, because it can set no headers: `bearer.<base64url(token)>`.
 * @returns the value of an Authorization header.
 */
export function authorizationOfProtocols(offered: string | undefined): string | undefined {
  const token = protocolsOf(offered).find((protocol) => protocol.startsWith('bearer.'))
  return token && `Bearer ${Buffer.from(token.slice('bearer.'.length), 'base64url').toString()}`
}

function protocolsOf(offered: string | undefined): string[] {
  return (offered ?? '')
    .split(',')
    .map((protocol) => protocol.trim())
    .filter(Boolean)
}

/** All connections of this process. */
export function createWebSockets(parts: WebSocketParts): WebSockets {
  const { limits, log, now = Date.now } = parts
  const sessions = new Set<Session>()
  let draining = false
  let emptied: (() => void) | undefined

  const shared: Shared = {
    ...parts,
    now,
    isDraining: () => draining,
    gone(session, reason) {
      sessions.delete(session)
      log.debug({ event: 'websocket closed', request_id: session.requestId, reason, open: sessions.size })
      if (sessions.size === 0) emptied?.()
    },
  }
  // One timer for all: ten thousand connections are looked through in a millisecond.
  const timer = setInterval(() => {
    const at = now()
    for (const session of sessions) session.tick(at)
  }, TICK_MS)
  timer.unref()

  async function untilEmpty(timeoutMs: number): Promise<void> {
    if (sessions.size === 0) return
    const { promise, resolve } = Promise.withResolvers<void>()
    emptied = resolve
    const timeout = setTimeout(resolve, timeoutMs)
    await promise
    clearTimeout(timeout)
  }

  return {
    limits,
    get size() {
      return sessions.size
    },
    accept(c) {
      const { upgrade } = (c.env ?? {}) as UpgradeBindings
      if (!upgrade)
        throw new AppError(
          'invalid_request',
          'This path speaks WebSocket: send an upgrade request (RFC 6455).',
        )
      const offered = c.req.header('sec-websocket-protocol')
      const protocol = protocolsOf(offered).includes('mcp') ? 'mcp' : undefined
      if (!protocol && protocolsOf(offered).length > 0)
        throw new AppError(
          'invalid_request',
          'Offer the subprotocol "mcp", or none at all for plain messages.',
        )
      if (draining)
        throw new AppError('overloaded', 'This server is about to stop; connect again.', {
          retryAfterSeconds: 1,
        })
      const authorization = c.req.header('authorization') ?? authorizationOfProtocols(offered)
      const { caller, requestId } = c.var
      upgrade({ caller, authorization, address: peerAddress(c), requestId, protocol })
      c.set('upgraded', true)
      return c.body(null, 204)
    },
    open(socket, opening) {
      const session = new Session(socket, opening, shared)
      sessions.add(session)
      if (draining) session.drain()
      return session
    },
    async drain({ timeoutMs }) {
      draining = true
      for (const session of sessions) session.drain()
      await untilEmpty(timeoutMs)
      for (const session of sessions) session.close('restart')
      await untilEmpty(2 * CLOSING_MS)
    },
    async close() {
      await this.drain({ timeoutMs: 0 })
      clearInterval(timer)
    },
  }
}

interface Shared extends Required<WebSocketParts> {
  isDraining(): boolean
  gone(session: Session, reason: string): void
}

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

/** One connection. A class, because thousands of them wait at once: methods are shared, closures would not be. */
class Session implements Connection {
  readonly #socket: Socket
  readonly #opening: Opening
  readonly #shared: Shared
  /** What is being worked on: ids of JSON-RPC requests, and the plain calls themselves. */
  #calls: Set<RequestId | AbortController> | undefined
  /** The protocol's end of the connection; made with the first message, because idle connections should cost nothing. */
  #channel: Transport | undefined
  #messageAt: number
  #pingedAt: number
  #awaitsPong = false
  #state: 'open' | 'closing' | 'closed' = 'open'
  #reason = 'the peer left'

  constructor(socket: Socket, opening: Opening, shared: Shared) {
    this.#socket = socket
    this.#opening = opening
    this.#shared = shared
    this.#messageAt = this.#pingedAt = shared.now()
    if (!opening.protocol)
      this.#send({ type: 'connection', sessionId: randomUUID(), timestamp: new Date().toISOString() })
  }

  get requestId(): string {
    return this.#opening.requestId
  }

  received(text: string | undefined): void {
    if (this.#state !== 'open') return
    this.#messageAt = this.#shared.now()
    if (text === undefined) {
      this.close('binary')
      return
    }
    if (Buffer.byteLength(text) > this.#shared.limits.maxMessageBytes) {
      this.close('tooBig')
      return
    }
    if (this.#isExpired()) {
      this.close('expired')
      return
    }
    let message: unknown
    try {
      message = parseJson(text)
    } catch (error) {
      this.#refuse(toAppError(error))
      return
    }
    const isRpc =
      this.#opening.protocol === 'mcp' || (message as { jsonrpc?: unknown } | null)?.jsonrpc !== undefined
    if (isRpc) this.#rpc(message)
    else this.#plain(message)
  }

  ponged(): void {
    this.#awaitsPong = false
  }

  /** Whoever left waits for nothing any more: every call in flight loses its waiter. */
  closed(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#detach()
    this.#shared.gone(this, this.#reason)
  }

  close(reason: CloseReason): void {
    if (this.#state !== 'open') return
    this.#state = 'closing'
    this.#reason = reason
    this.#detach()
    const [code, text] = CLOSE[reason]
    this.#socket.close(code, text)
    setTimeout(() => this.#terminate(), CLOSING_MS).unref()
  }

  drain(): void {
    if (!this.#calls?.size) this.close('restart')
  }

  tick(at: number): void {
    if (this.#state !== 'open') return
    const { pingMs, idleMs } = this.#shared.limits
    if (this.#isExpired()) {
      this.close('expired')
      return
    }
    if (!this.#calls?.size && at - this.#messageAt >= idleMs) {
      this.close('idle')
      return
    }
    if (at - this.#pingedAt < pingMs) return
    this.#pingedAt = at
    if (this.#awaitsPong) {
      this.#reason = 'the peer answers no ping'
      this.#terminate()
      return
    }
    if (this.#socket.ping) {
      this.#awaitsPong = true
      this.#socket.ping()
    }
    void this.#authenticateAgain()
  }

  /** A token that was withdrawn must not live on in an open connection. */
  async #authenticateAgain(): Promise<void> {
    try {
      await this.#shared.authenticate(this.#opening.authorization)
    } catch (error) {
      if (toAppError(error).code === 'unauthenticated') this.close('expired')
    }
  }

  #isExpired(): boolean {
    const { expiresAt } = this.#opening.caller
    return expiresAt !== undefined && expiresAt <= this.#shared.now()
  }

  #terminate(): void {
    if (this.#state === 'closed') return
    this.#socket.terminate?.()
    this.closed()
  }

  #detach(): void {
    for (const call of this.#calls ?? []) if (call instanceof AbortController) call.abort()
    this.#calls?.clear()
    this.#channel?.onclose?.()
  }

  /** @throws AppError `rate_limited`. */
  #charge(): void {
    const { caller, address } = this.#opening
    this.#shared.rateLimit.charge({ caller, address })
  }

  /** @throws AppError `rate_limited` when the connection has as many calls as it may, or does not read its answers. */
  #begin(call: RequestId | AbortController): void {
    const { maxCalls, maxBufferedBytes } = this.#shared.limits
    this.#calls ??= new Set()
    if (this.#calls.has(call))
      throw new AppError('invalid_request', 'The id is that of a request which is not answered yet.')
    if (this.#calls.size >= maxCalls)
      throw new AppError(
        'rate_limited',
        `A connection may have ${maxCalls} calls in flight (WS_MAX_CALLS); wait for an answer first.`,
        { retryAfterSeconds: 1 },
      )
    if (this.#socket.bufferedAmount > maxBufferedBytes / 2)
      throw new AppError('rate_limited', 'Read the answers that wait for you before you ask for more.', {
        retryAfterSeconds: 1,
      })
    this.#calls.add(call)
  }

  #end(call: RequestId | AbortController): void {
    this.#calls?.delete(call)
    if (this.#shared.isDraining()) this.drain()
  }

  #rpc(received: unknown): void {
    let message: JSONRPCMessage
    try {
      message = parseJSONRPCMessage(received)
    } catch {
      this.#refuse(new AppError('invalid_request', 'This is not one JSON-RPC 2.0 message.'))
      return
    }
    const cancelled = cancelledId(message)
    try {
      // A cancellation is always heard: it makes less work.
      if (cancelled === undefined) this.#charge()
      if (isJSONRPCRequest(message)) this.#begin(message.id)
    } catch (error) {
      if (isJSONRPCRequest(message)) this.#refuse(toAppError(error), message.id)
      return
    }
    this.#channel ??= this.#connect()
    this.#channel.onmessage?.(message)
    if (cancelled !== undefined) this.#end(cancelled)
  }

  #connect(): Transport {
    const { caller, requestId } = this.#opening
    const channel: Transport = {
      start: async () => {},
      send: async (message) => {
        this.#send(message)
        if (isJSONRPCResultResponse(message) || isJSONRPCErrorResponse(message))
          if (message.id !== undefined) this.#end(message.id)
      },
      close: async () => {},
    }
    // The SDK's stdio entry takes any transport that carries one message at a time, and tells the eras apart.
    serveStdio(
      (context) => this.#shared.serverFactory({ ...context, authInfo: authInfoOf({ caller, requestId }) }),
      {
        transport: channel,
        onerror: (error) => this.#shared.log.debug({ event: 'websocket', message: error.message }),
      },
    )
    return channel
  }

  #plain(received: unknown): void {
    try {
      this.#charge()
      const message = parseInput(plainMessage, received)
      if (message.type === 'ping')
        this.#send({ type: 'pong', timestamp: new Date().toISOString(), ...idOf(message.id) })
      else if (message.type === 'list_tools') {
        const tools = [...this.#shared.toolCaller.tools.values()].map(({ listing }) => listing)
        this.#send({ type: 'tools', data: tools, ...idOf(message.id) })
      } else {
        const call = new AbortController()
        this.#begin(call)
        void this.#execute(message, call)
      }
    } catch (error) {
      const { id } = z.object({ id: messageId }).safeParse(received).data ?? {}
      this.#sendError(toAppError(error), id)
    }
  }

  async #execute(
    { tool, params, id }: { tool: string; params?: Record<string, unknown> | undefined; id?: PlainId },
    call: AbortController,
  ): Promise<void> {
    const { caller, requestId } = this.#opening
    try {
      const { structured, content } = await this.#shared.toolCaller.call(tool, params, {
        caller,
        requestId,
        signal: call.signal,
      })
      this.#send({ type: 'tool_result', tool, data: structured, content, ...idOf(id) })
    } catch (error) {
      this.#sendError(toAppError(error), id)
    }
    this.#end(call)
  }

  /** Says what is wrong with a message, in the words of the connection's protocol. */
  #refuse(error: AppError, id?: RequestId): void {
    if (this.#opening.protocol !== 'mcp' && id === undefined) {
      this.#sendError(error, undefined)
      return
    }
    const code = error.code === 'invalid_request' ? -32600 : -32000
    this.#send({
      jsonrpc: '2.0',
      id: id ?? null,
      error: { code, message: error.message, data: error.toPublic() },
    })
  }

  #sendError(error: AppError, id: PlainId): void {
    const { message, ...rest } = error.toPublic()
    this.#send({ type: 'error', error: message, ...rest, ...idOf(id) })
  }

  #send(message: object): void {
    if (this.#state !== 'open') return
    const text = JSON.stringify(message)
    const { bufferedAmount } = this.#socket
    // One answer always goes out, however big; what may not pile up is several.
    if (bufferedAmount > 0 && bufferedAmount + text.length > this.#shared.limits.maxBufferedBytes) {
      this.close('slowReader')
      return
    }
    this.#socket.send(text)
  }
}

const idOf = (id: PlainId) => (id === undefined ? {} : { id })

function cancelledId(message: JSONRPCMessage): RequestId | undefined {
  if (!('method' in message) || message.method !== 'notifications/cancelled') return undefined
  return (message.params as { requestId?: RequestId } | undefined)?.requestId
}
