/**
 * The WebSocket client of this server, published as `diffusers-mcp/client`: no dependencies, the same for Node 22 and
 * newer, Deno and browsers. Node 20 has no WebSocket of its own: give it one (`import { WebSocket } from 'ws'`) in the
 * options.
 */

/** What `WebSocket` must be able to do; the standard's, and that of `ws`. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocket

export interface MCPWebSocketClientOptions {
  /** `ws://HOST:8080/ws`, or `wss://` behind TLS. */
  readonly url: string
  /** A bearer token, or a function that is asked for one at every connection. It travels as a subprotocol, because browsers can set no headers. */
  readonly authToken?: string | undefined | (() => string | Promise<string>)
  /**
   * The longest pause before the first reconnection, in milliseconds (5000); it doubles with every attempt, up to a
   * minute. The pause itself is random, so that clients of a restarted server do not all come at once.
   */
  readonly reconnectInterval?: number
  /** Attempts in a row before the client gives up (10). */
  readonly maxReconnectAttempts?: number
  /** How long connecting may take, in milliseconds (30000). */
  readonly connectTimeoutMs?: number
  /** Absent: the global one. */
  readonly WebSocket?: WebSocketConstructor
}

export interface ExecuteOptions {
  /** Aborting cancels the call at the server; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal
  /** Called with every step the server reports; starts anew when the call had to be retried. */
  readonly onProgress?: (progress: Progress) => void
  /** How long to wait, reconnections included, in milliseconds (600000); then the call is cancelled. */
  readonly timeoutMs?: number
  /** For generate_image: calls under the same key make one picture. Absent: a key of its own for every call. */
  readonly idempotencyKey?: string
}

export interface Progress {
  readonly progress: number
  readonly total?: number
  readonly message?: string
}

/** A tool as the server lists it. */
export interface ToolListing {
  readonly name: string
  readonly title?: string
  readonly description?: string
  readonly inputSchema: Readonly<Record<string, unknown>>
  readonly outputSchema?: Readonly<Record<string, unknown>>
  readonly annotations?: { readonly readOnlyHint?: boolean; readonly idempotentHint?: boolean }
}

export interface ContentBlock {
  readonly type: string
  readonly text?: string
  /** Base64. */
  readonly data?: string
  readonly mimeType?: string
  readonly uri?: string
}

export interface ExecuteResult {
  readonly tool: string
  /** What the tool's output schema describes. */
  readonly data: Readonly<Record<string, unknown>>
  /** What is meant for people and models: text, pictures, links. */
  readonly content: readonly ContentBlock[]
}

/** Codes of the client's own, besides those of the server (`rate_limited`, `not_found`, …). */
export type ClientErrorCode =
  /** The connection was lost while the call ran, and repeating the call might do its work twice. */
  | 'connection_lost'
  /** No connection could be made, or not made again. */
  | 'connection_failed'
  /** `timeoutMs` is over. */
  | 'timeout'
  /** `close()` was called. */
  | 'closed'

/** What went wrong, with a code to decide by. */
export class MCPClientError extends Error {
  readonly code: ClientErrorCode | (string & {})
  /** Whole seconds after which another attempt makes sense, where the server said so. */
  readonly retryAfterSeconds: number | undefined

  constructor(code: MCPClientError['code'], message: string, retryAfterSeconds?: number) {
    super(message)
    this.name = 'MCPClientError'
    this.code = code
    this.retryAfterSeconds = retryAfterSeconds
  }
}

export interface ClientEvents {
  /** A connection is ready; `reconnected` is false for the first one. */
  connected: { readonly reconnected: boolean }
  /** The connection ended with this close code (RFC 6455). */
  disconnected: { readonly code: number; readonly reason: string }
  /** The next attempt comes after `delayMs`. */
  reconnecting: { readonly attempt: number; readonly delayMs: number }
  /** The client gave up; `connect()` starts anew. */
  failed: { readonly error: MCPClientError }
}

const META = 'io.github.diffusers-mcp'
const PROTOCOL_VERSION = '2025-11-25'
const MAX_PAUSE_MS = 60_000
/** While calls wait, silence for this long is met with a ping, and silence after that is a lost connection. */
const SILENCE_MS = 15_000

interface Call {
  readonly method: string
  readonly params: Record<string, unknown>
  /** Repeating it after a lost connection does no harm. */
  readonly repeatable: boolean
  readonly onProgress?: ((progress: Progress) => void) | undefined
  resolve(result: Record<string, unknown>): void
  reject(error: unknown): void
}

interface Message {
  readonly id?: number | string | null
  readonly method?: string
  readonly params?: Record<string, unknown>
  readonly result?: Record<string, unknown>
  readonly error?: { readonly message: string; readonly data?: unknown }
}

/** Calls tools over one WebSocket that is made again when it is lost. */
export class MCPWebSocketClient {
  readonly #options: MCPWebSocketClientOptions
  readonly #listeners = new Map<keyof ClientEvents, Set<(event: never) => void>>()
  readonly #calls = new Map<number, Call>()
  #nextId = 1
  #socket: WebSocket | undefined
  /** Handshake done: calls may be sent. */
  #ready = false
  #connecting: Promise<void> | undefined
  #closed = false
  #wasConnected = false
  #attempts = 0
  #pause: ReturnType<typeof setTimeout> | undefined
  #watch: ReturnType<typeof setInterval> | undefined
  #heardAt = 0
  #tools: readonly ToolListing[] = []

  constructor(options: MCPWebSocketClientOptions) {
    this.#options = options
  }

  get connected(): boolean {
    return this.#ready
  }

  /** Calls `listener` at every such event. @returns a function that ends it. */
  on<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): () => void {
    const listeners = this.#listeners.get(name) ?? new Set()
    this.#listeners.set(name, listeners)
    listeners.add(listener)
    return () => void listeners.delete(listener)
  }

  /**
   * Connects; resolves at once where a connection is there. A first attempt that fails is not repeated: a wrong URL or
   * token should be seen. Only a connection that was there is made again.
   * @throws MCPClientError `connection_failed`, `closed`.
   */
  async connect(): Promise<void> {
    this.#closed = false
    if (this.#ready) return
    this.#endPause()
    this.#attempts = 0
    await this.#open()
  }

  /** All tools. @throws MCPClientError */
  async listTools(): Promise<readonly ToolListing[]> {
    const tools: ToolListing[] = []
    let cursor: unknown
    do {
      const page = await this.#call('tools/list', cursor === undefined ? {} : { cursor }, {
        repeatable: true,
      })
      tools.push(...((page.tools as ToolListing[] | undefined) ?? []))
      cursor = page.nextCursor
    } while (cursor !== undefined)
    this.#tools = tools
    return tools
  }

  /**
   * Calls a tool. When the connection is lost meanwhile, the call is sent again over the next one if that is safe:
   * generate_image, because it carries an idempotency key, and tools whose annotations say that they only read or may
   * be repeated.
   * @throws MCPClientError with the server's code, or one of ClientErrorCode; the signal's reason when it is aborted.
   */
  async executeTool(
    name: string,
    params: Record<string, unknown> = {},
    options: ExecuteOptions = {},
  ): Promise<ExecuteResult> {
    const generates = name === 'generate_image'
    const hints = this.#tools.find((tool) => tool.name === name)?.annotations
    const key = options.idempotencyKey ?? (generates ? crypto.randomUUID() : undefined)
    const _meta = key === undefined ? {} : { _meta: { [`${META}/idempotencyKey`]: key } }
    const result = await this.#call(
      'tools/call',
      { name, arguments: params, ..._meta },
      { ...options, repeatable: generates || hints?.readOnlyHint === true || hints?.idempotentHint === true },
    )
    const content = (result.content as ContentBlock[] | undefined) ?? []
    if (result.isError) throw failureOf(result, content)
    return {
      tool: name,
      data: (result.structuredContent as ExecuteResult['data'] | undefined) ?? {},
      content,
    }
  }

  /** Ends the connection and every call; resolves when the socket is closed. `connect()` may follow. */
  async close(): Promise<void> {
    this.#closed = true
    this.#endPause()
    this.#failAll(new MCPClientError('closed', 'The client was closed.'))
    const socket = this.#socket
    if (!socket || socket.readyState === 3) return
    const gone = new Promise<void>((resolve) => socket.addEventListener('close', () => resolve()))
    socket.close(1000)
    await gone
  }

  #emit<Name extends keyof ClientEvents>(name: Name, event: ClientEvents[Name]): void {
    for (const listener of this.#listeners.get(name) ?? [])
      (listener as (event: ClientEvents[Name]) => void)(event)
  }

  #call(
    method: string,
    params: Record<string, unknown>,
    options: Omit<ExecuteOptions, 'idempotencyKey'> & { repeatable: boolean },
  ): Promise<Record<string, unknown>> {
    const { signal, onProgress, timeoutMs = 600_000, repeatable } = options
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const isIdle = !this.#socket && !this.#connecting && this.#pause === undefined
      if (this.#closed || (isIdle && !this.#wasConnected))
        return reject(new MCPClientError('closed', 'Not connected: call connect() first.'))
      const id = this.#nextId++
      const leave = (error: unknown) => {
        if (!this.#calls.has(id)) return
        if (this.#ready)
          this.#send({ method: 'notifications/cancelled', params: { requestId: id, reason: String(error) } })
        call.reject(error)
      }
      const onAbort = () => leave(signal?.reason)
      const timer = setTimeout(
        () => leave(new MCPClientError('timeout', `No answer to ${method} within ${timeoutMs} ms.`)),
        timeoutMs,
      )
      const settle = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        this.#calls.delete(id)
        if (this.#calls.size === 0) clearInterval(this.#watch)
      }
      signal?.addEventListener('abort', onAbort)
      const meta = { ...(params._meta as object | undefined), ...(onProgress && { progressToken: id }) }
      const call: Call = {
        method,
        params: { ...params, ...(Object.keys(meta).length > 0 && { _meta: meta }) },
        repeatable,
        onProgress,
        resolve(result) {
          settle()
          resolve(result)
        },
        reject(error) {
          settle()
          reject(error)
        },
      }
      this.#calls.set(id, call)
      if (this.#calls.size === 1) this.#watchForSilence()
      if (this.#ready) this.#send({ id, method, params: call.params })
      // An idle connection was closed by the server: there is one again when it is needed.
      else if (isIdle) this.#reconnect()
    })
  }

  #send(message: Message): void {
    this.#socket?.send(JSON.stringify({ jsonrpc: '2.0', ...message }))
  }

  /** One attempt, the handshake included; concurrent callers share it. */
  #open(): Promise<void> {
    this.#connecting ??= this.#attempt().finally(() => {
      this.#connecting = undefined
    })
    return this.#connecting
  }

  async #attempt(): Promise<void> {
    const { url, authToken, connectTimeoutMs = 30_000 } = this.#options
    const Socket = this.#options.WebSocket ?? (globalThis.WebSocket as WebSocketConstructor | undefined)
    if (!Socket)
      throw new MCPClientError(
        'connection_failed',
        'There is no global WebSocket (Node before 22): pass one as the option WebSocket, as that of the package ws.',
      )
    const token = typeof authToken === 'function' ? await authToken() : authToken
    const socket = new Socket(url, ['mcp', ...(token ? [`bearer.${base64url(token)}`] : [])])
    this.#socket = socket
    await new Promise<void>((resolve, reject) => {
      const fail = (message: string) => reject(new MCPClientError('connection_failed', message))
      const timer = setTimeout(() => {
        fail(`No connection to ${url} within ${connectTimeoutMs} ms.`)
        socket.close()
      }, connectTimeoutMs)
      socket.addEventListener('error', () => {})
      socket.addEventListener('open', () =>
        this.#send({
          id: 0,
          method: 'initialize',
          params: {
            protocolVersion: PROTOCOL_VERSION,
            capabilities: {},
            clientInfo: { name: 'diffusers-mcp/client', version: '1' },
          },
        }),
      )
      let listing = false
      socket.addEventListener('message', ({ data }) => {
        this.#heardAt = Date.now()
        const message = JSON.parse(String(data)) as Message
        if (this.#ready || message.id !== 0) return this.#receive(message)
        if (message.error) {
          fail(`The server refused the connection: ${message.error.message}`)
          socket.close()
        } else if (!listing) {
          listing = true
          this.#send({ method: 'notifications/initialized' })
          // Their annotations say which calls may be repeated.
          this.#send({ id: 0, method: 'tools/list' })
        } else {
          clearTimeout(timer)
          this.#tools = (message.result?.tools as ToolListing[] | undefined) ?? []
          this.#isReady()
          resolve()
        }
      })
      socket.addEventListener('close', ({ code, reason }) => {
        clearTimeout(timer)
        fail(
          `${url} closed the connection (${code}${reason && `: ${reason}`}); is the URL right, and the token? ` +
            'Browsers do not tell scripts more.',
        )
        this.#lost(socket, code, reason)
      })
    })
  }

  #isReady(): void {
    this.#ready = true
    this.#attempts = 0
    const reconnected = this.#wasConnected
    this.#wasConnected = true
    for (const [id, { method, params }] of this.#calls) this.#send({ id, method, params })
    this.#emit('connected', { reconnected })
  }

  #receive({ id, method, params, result, error }: Message): void {
    if (method === 'notifications/progress') {
      const { progressToken, ...progress } = params ?? {}
      this.#calls.get(progressToken as number)?.onProgress?.(progress as unknown as Progress)
    } else if (method === 'ping' && id !== undefined) this.#send({ id, result: {} })
    else if (typeof id === 'number') {
      if (error) this.#calls.get(id)?.reject(errorOf(error.data, error.message))
      else if (result) this.#calls.get(id)?.resolve(result)
    }
  }

  #lost(socket: WebSocket, code: number, reason: string): void {
    if (this.#socket !== socket) return
    const wasReady = this.#ready
    this.#socket = undefined
    this.#ready = false
    if (!wasReady) return
    this.#emit('disconnected', { code, reason })
    if (this.#closed) return
    for (const call of this.#calls.values())
      if (!call.repeatable)
        call.reject(
          new MCPClientError(
            'connection_lost',
            `The connection was lost (${code}) while ${String(call.params.name ?? call.method)} ran; whether it was done is not known.`,
          ),
        )
    // 1008: the token is refused; only a function can bring another one.
    if (code === 1008 && typeof this.#options.authToken !== 'function')
      this.#giveUp(new MCPClientError('unauthenticated', `The server refused the token: ${reason}`))
    // 1001: the server closed an idle connection; the next call makes another one.
    else if (code !== 1001 || this.#calls.size > 0) this.#reconnect()
  }

  #reconnect(): void {
    const { reconnectInterval = 5000, maxReconnectAttempts = 10 } = this.#options
    this.#attempts += 1
    const attempt = this.#attempts
    const delayMs = Math.round(
      Math.random() *
        Math.min(reconnectInterval * 2 ** (attempt - 1), Math.max(MAX_PAUSE_MS, reconnectInterval)),
    )
    this.#emit('reconnecting', { attempt, delayMs })
    this.#pause = setTimeout(() => {
      this.#pause = undefined
      this.#open().catch((error) => {
        if (this.#closed) return
        if (attempt >= maxReconnectAttempts) this.#giveUp(error as MCPClientError)
        else this.#reconnect()
      })
    }, delayMs)
  }

  #endPause(): void {
    clearTimeout(this.#pause)
    this.#pause = undefined
  }

  #giveUp(error: MCPClientError): void {
    this.#wasConnected = false
    this.#failAll(error)
    this.#emit('failed', { error })
  }

  #failAll(error: MCPClientError): void {
    for (const call of this.#calls.values()) call.reject(error)
  }

  /** A peer that vanished without a word closes nothing: while calls wait, it is asked for a sign of life. */
  #watchForSilence(): void {
    this.#heardAt = Date.now()
    clearInterval(this.#watch)
    this.#watch = setInterval(() => {
      const socket = this.#socket
      if (!socket || !this.#ready) return
      const silence = Date.now() - this.#heardAt
      if (silence >= 2 * SILENCE_MS) {
        this.#lost(socket, 1006, 'no sign of life')
        socket.close()
      } else if (silence >= SILENCE_MS) this.#send({ id: -1, method: 'ping' })
    }, SILENCE_MS)
  }
}

function failureOf(result: Record<string, unknown>, content: readonly ContentBlock[]): MCPClientError {
  const data = (result._meta as Record<string, unknown> | undefined)?.[`${META}/error`]
  return errorOf(data, content.find(({ text }) => text !== undefined)?.text ?? 'The tool failed.')
}

function errorOf(data: unknown, message: string): MCPClientError {
  const told = (data ?? {}) as { code?: string; message?: string; retry_after_seconds?: number }
  return new MCPClientError(told.code ?? 'internal', told.message ?? message, told.retry_after_seconds)
}

function base64url(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '')
}
