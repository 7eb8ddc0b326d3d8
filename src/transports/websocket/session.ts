/**
 * One connection of `/ws`: its limits and timers, and its messages. A client that offers the subprotocol `mcp` speaks
 * MCP of either era, and one that offers none speaks plain.ts, or JSON-RPC where it sends that.
 */
import { setTimeout } from 'node:timers'
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
import type { Authenticate } from '../../auth/authenticate.ts'
import { type Caller, isAnonymous } from '../../auth/caller.ts'
import type { RateLimit } from '../../auth/rate-limit.ts'
import { AppError, clientLeft, type ErrorCode, rpcError, toAppError } from '../../errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { ToolCaller } from '../../tools/tool.ts'
import { type Asking, authInfoOf } from '../auth-info.ts'
import { parseJson } from '../body.ts'
import { Outbox, type OutboxParts, type Sender } from './outbox.ts'
import { answerPlain, greeting, type PlainConnection, plainError } from './plain.ts'

/** How long a closing handshake may take, in milliseconds. */
export const CLOSING_MS = 2000
/** How long a peer may take nothing of what waits for it, in milliseconds. */
const UNREAD_MS = 30_000

/** Messages in a row that a connection may send beyond the rate limit, each refused, until it is closed. */
const MAX_REFUSED = 100

/** RFC 6455, section 7.4, and its registry. */
const CLOSE = {
  idle: [1001, 'No message for too long.'],
  binary: [1003, 'Send text frames.'],
  expired: [1008, 'The token has expired or was withdrawn.'],
  tooBig: [1009, 'The message is too big.'],
  restart: [1012, 'The server restarts; connect again.'],
  slowReader: [1013, 'Answers are not read as fast as they are asked for.'],
  flood: [1013, 'Messages go on although they are refused; wait before you connect again.'],
} as const
type CloseReason = keyof typeof CLOSE

/** The error of a call that is in flight when this server closes the connection. */
const CALL_ERROR: Record<CloseReason, ErrorCode> = {
  idle: 'cancelled',
  binary: 'invalid_request',
  expired: 'unauthenticated',
  tooBig: 'too_large',
  restart: 'overloaded',
  slowReader: 'rate_limited',
  flood: 'rate_limited',
}

/** The socket of an engine. */
export interface Socket extends Sender {
  close(code: number, reason: string): void
  /** Closes without a handshake. */
  terminate(): void
  ping(): void
  pong(data: Uint8Array): void
  /** Bytes that the network has not taken, pongs among them. */
  readonly bufferedAmount: number
}

/** Events of a socket, called by the adapter. */
export interface Connection {
  /** A message; undefined for a binary one. */
  received(text: string | undefined): void
  pinged(data: Uint8Array): void
  ponged(): void
  /** The socket is gone. */
  closed(): void
}

/** What is known about a connection before it opens. */
export interface Opening {
  readonly caller: Caller
  readonly authorization: string | undefined
  readonly address: string | undefined
  readonly requestId: string
  /** The subprotocol to answer with; absent: none was offered. */
  readonly protocol: 'mcp' | undefined
  /** Called when the connection is gone: its caller may hold another one. */
  readonly release: () => void
}

export interface WebSocketLimits {
  readonly pingMs: number
  readonly idleMs: number
  readonly maxMessageBytes: number
  /** Calls in flight per connection. */
  readonly maxCalls: number
  /** Bytes that this process holds for a slow reader, per connection. */
  readonly maxBufferedBytes: number
}

/** Parts that all connections share. */
export interface SessionParts {
  readonly serverFactory: (context: McpRequestContext) => Server
  readonly toolCaller: ToolCaller
  readonly authenticate: Authenticate
  readonly rateLimit: RateLimit
  readonly limits: WebSocketLimits
  readonly log: Logger
  readonly unsentOf: OutboxParts['unsentOf']
  isDraining(): boolean
  /** Called when the connection is closed, to forget it. */
  gone(session: Session, reason: string): void
}

/** The id of a JSON-RPC request, or the controller of a plain call. */
type CallId = RequestId | AbortController

/** One connection. It is a class, because thousands wait at once and share its methods, but could not share closures. */
export class Session implements Connection, PlainConnection {
  readonly #socket: Socket
  readonly #opening: Opening
  readonly #shared: SessionParts
  readonly #outbox: Outbox
  /** Calls in flight, and what to do when their answers are sent. */
  #calls: Map<CallId, (() => void)[]> | undefined
  /** The MCP server's transport. The first message creates it, because idle connections should cost nothing. */
  #channel: Transport | undefined
  #messageAt: number
  #pingedAt: number
  #awaitsPong = false
  /** Messages in a row that the rate limit refused. */
  #refused = 0
  #state: 'open' | 'closing' | 'closed' = 'open'
  #reason = 'the peer left'
  #callError: AppError | undefined

  constructor(socket: Socket, opening: Opening, shared: SessionParts) {
    this.#socket = socket
    this.#opening = opening
    this.#shared = shared
    this.#messageAt = this.#pingedAt = performance.now()
    const { caller, address } = opening
    this.#outbox = new Outbox({
      sender: socket,
      maxBytes: shared.limits.maxBufferedBytes,
      // Anonymous callers are told apart by their addresses.
      caller: isAnonymous(caller) ? `address ${address}` : `caller ${caller.id}`,
      unsentOf: shared.unsentOf,
    })
    if (!opening.protocol) this.send(greeting())
  }

  get requestId(): string {
    return this.#opening.requestId
  }

  get asking(): Required<Asking> {
    const { caller, requestId } = this.#opening
    return {
      caller,
      requestId,
      reasonOfClosing: () => this.#callError ?? clientLeft(),
      onSent: (id, done) => this.onSent(id, done),
    }
  }

  get toolCaller(): ToolCaller {
    return this.#shared.toolCaller
  }

  received(text: string | undefined): void {
    if (this.#state !== 'open') return
    this.#messageAt = performance.now()
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
    this.#answer(text)
    this.#closeIfFlooded()
  }

  #answer(text: string): void {
    let message: unknown
    try {
      message = parseJson(text)
    } catch (error) {
      this.#refuseMalformed(toAppError(error))
      return
    }
    const isRpc =
      this.#opening.protocol === 'mcp' || (message as { jsonrpc?: unknown } | null)?.jsonrpc !== undefined
    if (isRpc) this.#rpc(message)
    else answerPlain(message, this)
  }

  /** A ping is a message too, and its answer waits in memory until the peer reads it. */
  pinged(data: Uint8Array): void {
    if (this.#state !== 'open') return
    try {
      this.charge()
      if (this.#socket.bufferedAmount <= this.#shared.limits.maxBufferedBytes / 2) this.#socket.pong(data)
    } catch {
      this.#closeIfFlooded()
    }
  }

  ponged(): void {
    this.#awaitsPong = false
  }

  /** The peer is gone, so every call in flight loses its waiter. */
  closed(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#detach()
    this.#outbox.close()
    this.#shared.gone(this, this.#reason)
  }

  close(reason: CloseReason): void {
    if (this.#state !== 'open') return
    this.#state = 'closing'
    this.#reason = reason
    const [code, text] = CLOSE[reason]
    this.#callError = new AppError(CALL_ERROR[reason], text)
    this.#detach()
    this.#socket.close(code, text)
    setTimeout(() => this.#terminate(), CLOSING_MS).unref()
  }

  /** Closes the connection, once its calls are answered and their answers are sent. */
  drain(): void {
    if (!this.#calls?.size && this.#outbox.isEmpty) this.close('restart')
  }

  /** @param at `performance.now()`. */
  tick(at: number): void {
    if (this.#state !== 'open') return
    const { pingMs, idleMs } = this.#shared.limits
    if (this.#isExpired()) {
      this.close('expired')
      return
    }
    if (this.#shared.isDraining()) this.drain()
    if (this.#outbox.stuckMs(at) >= UNREAD_MS) {
      this.close('slowReader')
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
    this.#awaitsPong = true
    this.#socket.ping()
    void this.#authenticateAgain()
  }

  /** A withdrawn token must not keep a connection open. */
  async #authenticateAgain(): Promise<void> {
    try {
      await this.#shared.authenticate(this.#opening.authorization)
    } catch (error) {
      if (toAppError(error).code === 'unauthenticated') this.close('expired')
    }
  }

  #isExpired(): boolean {
    const { expiresAt } = this.#opening.caller
    return expiresAt !== undefined && expiresAt <= Date.now()
  }

  #terminate(): void {
    if (this.#state === 'closed') return
    this.#socket.terminate()
    this.closed()
  }

  #detach(): void {
    for (const [call, done] of this.#calls ?? []) {
      if (call instanceof AbortController) call.abort(this.asking.reasonOfClosing())
      callAll(done)
    }
    this.#calls?.clear()
    this.#channel?.onclose?.()
  }

  /** @throws AppError `rate_limited`. */
  charge(): void {
    const { caller, address } = this.#opening
    this.#refused += 1
    this.#shared.rateLimit.charge({ caller, address })
    this.#refused = 0
  }

  /** A peer that does not listen to refusals is told once more, also where what it sends gets no answers, and closed. */
  #closeIfFlooded(): void {
    if (this.#refused < MAX_REFUSED) return
    this.#refuse(new AppError('rate_limited', CLOSE.flood[1]))
    this.close('flood')
  }

  /** @throws AppError `rate_limited` when the connection has as many calls as it may, or does not read its answers. */
  begin(call: CallId): void {
    const { maxCalls } = this.#shared.limits
    this.#calls ??= new Map()
    if (this.#calls.has(call))
      throw new AppError('invalid_request', 'The id is that of a request which is not answered yet.')
    if (this.#calls.size >= maxCalls)
      throw new AppError(
        'rate_limited',
        `A connection may have ${maxCalls} calls in flight (WS_MAX_CALLS); wait for an answer first.`,
        { retryAfterSeconds: 1 },
      )
    if (this.#outbox.isHalfFull)
      throw new AppError('rate_limited', 'Read the answers that wait for you before you ask for more.', {
        retryAfterSeconds: 1,
      })
    this.#calls.set(call, [])
  }

  /** Says when the answer of a call is sent, or never will be. */
  onSent(call: CallId, done: () => void): void {
    const ofCall = this.#calls?.get(call)
    if (ofCall) ofCall.push(done)
    else done()
  }

  /** Sends the answer of a call and ends it. */
  answer(call: CallId, message: object): void {
    const done = this.#calls?.get(call) ?? []
    this.#calls?.delete(call)
    this.send(message, () => {
      callAll(done)
      if (this.#shared.isDraining()) this.drain()
    })
  }

  /** Ends a call that gets no answer. */
  #end(call: CallId): void {
    callAll(this.#calls?.get(call) ?? [])
    this.#calls?.delete(call)
    if (this.#shared.isDraining()) this.drain()
  }

  #rpc(received: unknown): void {
    let message: JSONRPCMessage
    try {
      message = parseJSONRPCMessage(received)
    } catch {
      this.#refuseMalformed(new AppError('invalid_request', 'This is not one JSON-RPC 2.0 message.'))
      return
    }
    const cancelled = cancelledId(message)
    try {
      this.charge()
      if (isJSONRPCRequest(message)) this.begin(message.id)
    } catch (error) {
      if (isJSONRPCRequest(message)) this.#refuse(toAppError(error), message.id)
      // To cancel a call reduces the work, so the limit does not stop it.
      if (cancelled === undefined || !this.#calls?.has(cancelled)) return
    }
    this.#channel ??= this.#connect()
    this.#channel.onmessage?.(message)
    if (cancelled !== undefined) this.#end(cancelled)
  }

  #connect(): Transport {
    const channel: Transport = {
      start: async () => {},
      send: async (message) => {
        const isAnswer = isJSONRPCResultResponse(message) || isJSONRPCErrorResponse(message)
        if (isAnswer && message.id !== undefined) this.answer(message.id, message)
        else this.send(message)
      },
      close: async () => {},
    }
    // The SDK's stdio entry works with any transport of single messages, and detects the protocol era.
    serveStdio((context) => this.#shared.serverFactory({ ...context, authInfo: authInfoOf(this.asking) }), {
      transport: channel,
      onerror: (error) => this.#shared.log.debug({ event: 'websocket', message: error.message }),
    })
    return channel
  }

  /** Malformed messages count as others do. */
  #refuseMalformed(error: AppError): void {
    try {
      this.charge()
      this.#refuse(error)
    } catch (limited) {
      this.#refuse(toAppError(limited))
    }
  }

  /** Answers a bad message with an error of the connection's protocol. */
  #refuse(error: AppError, id?: RequestId): void {
    const isPlain = this.#opening.protocol !== 'mcp' && id === undefined
    this.send(isPlain ? plainError(error) : rpcError(error, id))
  }

  /** @param sent called once: when the message is sent, or never will be. */
  send(message: object, sent?: () => void): void {
    const isTaken = this.#state === 'open' && this.#outbox.send(JSON.stringify(message), sent)
    if (isTaken) return
    this.close('slowReader')
    sent?.()
  }
}

function callAll(functions: readonly (() => void)[]): void {
  for (const call of functions) call()
}

function cancelledId(message: JSONRPCMessage): RequestId | undefined {
  if (!('method' in message) || message.method !== 'notifications/cancelled') return undefined
  return (message.params as { requestId?: RequestId } | undefined)?.requestId
}
