/**
 * The WebSocket client of this server, published as `diffusers-mcp/client`. It imports nothing, and runs on Node 22 and
 * newer, Deno and browsers. Node 20 has no WebSocket: pass the one of the package `ws` as an option.
 */

/** A WebSocket class: the standard one, or that of `ws`. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocket

export interface MCPWebSocketClientOptions {
  /** `ws://HOST:8080/ws`, or `wss://` behind TLS. */
  readonly url: string
  /**
   * A bearer token, or a function that returns one and is called at every connection. The client sends it as a
   * subprotocol, because browsers cannot set headers. `undefined` is allowed, so that it may come from the environment.
   */
  readonly authToken?: string | undefined | (() => string | Promise<string>)
  /**
   * The longest pause before the first reconnection, in milliseconds. It doubles with every attempt, up to a minute.
   * The pause itself is random, so that the clients of a restarted server do not all come at once.
   * @default 5000
   */
  readonly reconnectInterval?: number
  /**
   * Attempts in a row before the client gives up.
   * @default 10
   */
  readonly maxReconnectAttempts?: number
  /**
   * The timeout of a connection attempt, in milliseconds.
   * @default 30000
   */
  readonly connectTimeoutMs?: number
  /**
   * The WebSocket class to use.
   * @default globalThis.WebSocket
   */
  readonly WebSocket?: WebSocketConstructor
}

export interface ExecuteOptions {
  /** Cancels the call at the server when it aborts. The promise then rejects with the signal's reason. */
  readonly signal?: AbortSignal
  /** Called with every step that the server reports. Starts again from the first step when the call is retried. */
  readonly onProgress?: (progress: Progress) => void
  /**
   * The timeout of the call, in milliseconds, reconnections included. After it the call is cancelled.
   * @default 600000
   */
  readonly timeoutMs?: number
  /** For generate_image: calls with the same key make one picture. By default every call has its own key. */
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
  /** Text, pictures and links, for people and models. */
  readonly content: readonly ContentBlock[]
}

/** The client's own codes, besides those of the server (`rate_limited`, `not_found`, …). */
export type ClientErrorCode =
  /** The connection was lost during the call. It was not retried, because its work might be done twice. */
  | 'connection_lost'
  /** No connection could be made, or not made again. */
  | 'connection_failed'
  /** `timeoutMs` is over. */
  | 'timeout'
  /** `close()` was called. */
  | 'closed'

/**
 * What this client throws. Decide by its `code`, which is one of `ClientErrorCode` or one of the server's.
 *
 * @example
 * ```ts
 * try {
 *   await client.executeTool('generate_image', { prompt: 'a red car' })
 * } catch (error) {
 *   if (!(error instanceof MCPClientError) || error.code !== 'rate_limited') throw error
 *   console.log(`Try again in ${error.retryAfterSeconds} s`)
 * }
 * ```
 */
export class MCPClientError extends Error {
  readonly code: ClientErrorCode | (string & {})
  /** Whole seconds after which a retry makes sense. The server sets it for `rate_limited` and `overloaded`. */
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
  /** The next attempt starts after `delayMs`. */
  reconnecting: { readonly attempt: number; readonly delayMs: number }
  /** The client gave up. Call `connect()` to start again. */
  failed: { readonly error: MCPClientError }
}

const META = 'io.github.diffusers-mcp'
const PROTOCOL_VERSION = '2025-11-25'
const MAX_PAUSE_MS = 60_000
/** After this much silence a client whose calls wait sends a ping. After twice as much the connection is lost. */
const SILENCE_MS = 15_000

interface Call {
  readonly method: string
  readonly params: Record<string, unknown>
  /** Safe to retry after a lost connection. */
  readonly repeatable: boolean
  readonly onProgress?: (progress: Progress) => void
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

/**
 * Calls the server's tools over one WebSocket. The client reconnects when the connection is lost.
 *
 * @example
 * ```ts
 * import { MCPWebSocketClient } from 'diffusers-mcp/client'
 *
 * const client = new MCPWebSocketClient({ url: 'ws://127.0.0.1:8080/ws', authToken: 'your-token' })
 * await client.connect()
 * const { data } = await client.executeTool('generate_image', { prompt: 'a red car' })
 * console.log(data.image_id)
 * await client.close()
 * ```
 *
 * @example
 * On Node 20, which has no WebSocket:
 * ```ts
 * import { WebSocket } from 'ws'
 *
 * const client = new MCPWebSocketClient({ url: 'ws://127.0.0.1:8080/ws', WebSocket })
 * ```
 */
export class MCPWebSocketClient {
  readonly #options: MCPWebSocketClientOptions
  readonly #listeners = new Map<keyof ClientEvents, Set<(event: never) => void>>()
  readonly #calls = new Map<number, Call>()
  #nextId = 1
  #socket: WebSocket | undefined
  /** The handshake is done, so calls may be sent. */
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

  /** True while calls can be sent at once. */
  get connected(): boolean {
    return this.#ready
  }

  /**
   * Calls `listener` at every event of this name.
   * @returns a function that removes the listener.
   *
   * @example
   * ```ts
   * const stop = client.on('reconnecting', ({ attempt, delayMs }) => console.log(attempt, delayMs))
   * client.on('failed', ({ error }) => console.error(error.message))
   * stop()
   * ```
   */
  on<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): () => void {
    const listeners = this.#listeners.get(name) ?? new Set()
    this.#listeners.set(name, listeners)
    listeners.add(listener)
    return () => void listeners.delete(listener)
  }

  /**
   * Connects. Resolves at once when there is a connection already.
   * A failed first attempt is not retried, so that a wrong URL or token shows. Later the client reconnects by itself.
   * @throws MCPClientError `connection_failed`, `closed`.
   *
   * @example
   * ```ts
   * await client.connect()
   * console.log(client.connected) // true
   * ```
   */
  async connect(): Promise<void> {
    this.#closed = false
    if (this.#ready) return
    this.#endPause()
    this.#attempts = 0
    await this.#open()
  }

  /**
   * Lists all tools of the server.
   * @throws MCPClientError
   *
   * @example
   * ```ts
   * for (const { name, description } of await client.listTools()) console.log(name, description)
   * ```
   */
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
   * Calls a tool. When the connection is lost during the call, the client reconnects and retries it where that is safe.
   * It is safe for generate_image, which carries an idempotency key, and for tools whose annotations say so. Without
   * authentication keys have no effect, but there the server ends the job of a lost connection.
   * @throws MCPClientError with the server's code or one of ClientErrorCode; the signal's reason when it aborts.
   *
   * @example
   * ```ts
   * const { data, content } = await client.executeTool(
   *   'generate_image',
   *   { prompt: 'a red car', width: 512, height: 512 },
   *   { signal: AbortSignal.timeout(60_000), onProgress: ({ message }) => console.log(message) },
   * )
   * const picture = content.find(({ type }) => type === 'image')
   * console.log(data.seed, picture?.mimeType)
   * ```
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

  /**
   * Ends the connection and fails every call with `closed`. Resolves when the socket is closed.
   * `connect()` may follow.
   */
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
      // The server closes idle connections. The next call makes a new one.
      else if (isIdle) this.#reconnect()
    })
  }

  #send(message: Message): void {
    this.#socket?.send(JSON.stringify({ jsonrpc: '2.0', ...message }))
  }

  /** One attempt with its handshake. Concurrent callers share it. */
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
        'There is no global WebSocket (Node before 22). Pass one as the option WebSocket, such as that of the package ws.',
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
        this.#heardAt = performance.now()
        const message = JSON.parse(String(data)) as Message
        if (this.#ready || message.id !== 0) return this.#receive(message)
        if (message.error) {
          fail(`The server refused the connection: ${message.error.message}`)
          socket.close()
        } else if (!listing) {
          listing = true
          this.#send({ method: 'notifications/initialized' })
          // The annotations say which calls may be retried.
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
    // 1008: the server refuses the token, and only a function can return another one.
    if (code === 1008 && typeof this.#options.authToken !== 'function')
      this.#giveUp(new MCPClientError('unauthenticated', `The server refused the token: ${reason}`))
    // 1001: the server closed an idle connection. The next call makes a new one.
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

  /** A peer that vanishes does not close its connection, so the client pings it while calls wait. */
  #watchForSilence(): void {
    this.#heardAt = performance.now()
    clearInterval(this.#watch)
    this.#watch = setInterval(() => {
      const socket = this.#socket
      if (!socket || !this.#ready) return
      const silence = performance.now() - this.#heardAt
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
