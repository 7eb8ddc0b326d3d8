/**
 * The HTTP listener of Node and Deno. Every state of a connection is bounded in time and bytes, before any token is
 * read; docs/security.md has the table. It keeps its own set of connections, because the server's own `close` would
 * wait for silent peers for ever, and cut answers that are still being sent.
 *
 * Deno runs the same code: its own server has no timeouts and collects unfinished WebSocket messages without a limit.
 */
import { type IncomingMessage, type Server, ServerResponse } from 'node:http'
import { type AddressInfo, Server as NetServer, type Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import { serve } from '@hono/node-server'
import { attachWebSockets, UPGRADES } from './transports/websocket/sockets.ts'
import type { WebSockets } from './transports/websocket/websockets.ts'

export interface ConnectionBounds {
  /** How long a connection may take to send the headers of a request, in milliseconds. */
  readonly headersMs: number
  /** How long it may take to send a whole request, in milliseconds. */
  readonly requestMs: number
  /**
   * How long it may be idle, in milliseconds. It must be longer than clients and load balancers keep theirs, often 60 s:
   * else the server may close a connection just as the next call arrives.
   */
  readonly idleMs: number
  /** How long an answer may wait for a peer that takes no byte of it, in milliseconds. */
  readonly unreadMs: number
  /** How long a peer may be silent before the system asks whether it is still there, in milliseconds. */
  readonly probeMs: number
  /** How often the first two and `unreadMs` are checked, in milliseconds. */
  readonly checkMs: number
}

const BOUNDS: ConnectionBounds = {
  headersMs: 60_000,
  requestMs: 300_000,
  idleMs: 120_000,
  unreadMs: 30_000,
  probeMs: 60_000,
  checkMs: 10_000,
}
/** Node's default, said aloud because the bound of bytes depends on it. */
const MAX_HEADER_BYTES = 16 * 1024
/** A larger body is sent in slices of this size, so that it shows whether the peer takes any of it. */
const SLICE_BYTES = 256 * 1024

type Fetch = (request: Request, bindings: object) => Response | Promise<Response>

/** What was cut when the connections were destroyed. */
export interface Cut {
  readonly connections: number
  /** Bytes of answers that the network had not taken. */
  readonly unsentBytes: number
}

export interface Listener {
  readonly port: number
  /** Closes idle connections, and from now on each one whose answer is sent. */
  closeIdle(): Promise<void>
  /** Accepts no more connections, and destroys those that have not sent a whole request head. */
  stopListening(): void
  /** Resolves when all connections are gone. */
  untilEmpty(): Promise<void>
  /** Destroys every connection. */
  destroy(): Cut
}

/** What is known about one connection. */
interface Connection {
  readonly socket: Socket
  /** Requests that are not answered yet. */
  readonly answers: Set<SlicedResponse>
  upgraded: boolean
  /** Bytes received when the last answer ended; more mean that a request has begun. */
  bytesBefore: number
  /** Bytes that the network has taken, and since when it has taken no more of those that wait. */
  taken: number
  takenAt: number
}

/**
 * Opens a port.
 * @param options.webSockets where `/ws` is served.
 * @throws Error of the system where the port cannot be opened.
 */
export async function listen(options: {
  readonly fetch: Fetch
  readonly hostname: string | undefined
  readonly port: number
  readonly webSockets?: WebSockets
  readonly bounds?: Partial<ConnectionBounds>
}): Promise<Listener> {
  const { fetch, hostname, port, webSockets } = options
  const bounds = { ...BOUNDS, ...options.bounds }
  const connections = new Map<Socket, Connection>()
  let closing = false
  let emptied: (() => void) | undefined

  const server = await openServer({ fetch, hostname, port, bounds })
  server.on('connection', remember)
  server.prependListener('request', begin)
  if (webSockets) attachWebSockets({ server, fetch, webSockets, opened: upgraded })
  const timer = setInterval(destroyUnread, bounds.checkMs)
  timer.unref()

  function remember(socket: Socket): void {
    // Deno ignores the server's option for this.
    socket.setKeepAlive(true, bounds.probeMs)
    const connection = {
      socket,
      answers: new Set<SlicedResponse>(),
      upgraded: false,
      bytesBefore: 0,
      taken: 0,
      takenAt: performance.now(),
    }
    connections.set(socket, connection)
    socket.once('close', () => {
      connections.delete(socket)
      if (connections.size === 0) emptied?.()
    })
  }

  function begin({ socket }: IncomingMessage, answer: ServerResponse): void {
    const connection = connections.get(socket)
    if (!connection) return
    connection.answers.add(answer as SlicedResponse)
    answer.once('close', () => {
      connection.answers.delete(answer as SlicedResponse)
      connection.bytesBefore = socket.bytesRead
      if (closing && connection.answers.size === 0) socket.destroySoon()
    })
  }

  function upgraded(socket: Socket): void {
    const connection = connections.get(socket)
    if (connection) connection.upgraded = true
  }

  /** A WebSocket has pings for this. */
  function destroyUnread(): void {
    const now = performance.now()
    for (const connection of connections.values()) {
      const { socket } = connection
      const taken = socket.bytesWritten - socket.writableLength
      if (connection.upgraded || socket.writableLength === 0 || taken !== connection.taken) {
        connection.taken = taken
        connection.takenAt = now
      } else if (now - connection.takenAt >= bounds.unreadMs) socket.destroy()
    }
  }

  const waiting = () => [...connections.values()].filter((it) => !it.upgraded && it.answers.size === 0)

  return {
    port: (server.address() as AddressInfo).port,
    async closeIdle() {
      closing = true
      // A process that stood still reads first what arrived meanwhile.
      await setImmediate()
      for (const { socket, bytesBefore } of waiting())
        if (socket.bytesRead === bytesBefore) socket.destroySoon()
    },
    stopListening() {
      closing = true
      // Not the method of the HTTP server, which ends the check of its timeouts and cuts answers that are being sent.
      NetServer.prototype.close.call(server)
      for (const { socket } of waiting()) socket.destroySoon()
    },
    async untilEmpty() {
      if (connections.size === 0) return
      await new Promise<void>((resolve) => {
        emptied = resolve
      })
    },
    destroy() {
      clearInterval(timer)
      NetServer.prototype.close.call(server)
      let unsentBytes = 0
      const cut = [...connections.values()]
      for (const { socket, answers } of cut) {
        unsentBytes += socket.writableLength
        for (const answer of answers) unsentBytes += answer.unsentBytes
        socket.destroy()
      }
      return { connections: cut.length, unsentBytes }
    },
  }
}

/** An HTTP server that listens. */
function openServer(options: {
  readonly fetch: Fetch
  readonly hostname: string | undefined
  readonly port: number
  readonly bounds: ConnectionBounds
}): Promise<Server> {
  const { bounds, ...served } = options
  const serverOptions = {
    ...UPGRADES,
    ServerResponse: SlicedResponse as typeof ServerResponse,
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: bounds.headersMs,
    requestTimeout: bounds.requestMs,
    keepAliveTimeout: bounds.idleMs,
    connectionsCheckingInterval: bounds.checkMs,
  }
  return new Promise((resolve, reject) => {
    const server = serve({ ...served, serverOptions }, () => resolve(server as Server))
    server.on('error', reject)
  })
}

/** Sends large bodies slice by slice. Of one large write the engines do not tell how far it is. */
class SlicedResponse extends ServerResponse {
  #body: Uint8Array = new Uint8Array()
  #endsAfterBody = false

  /** Bytes of a large body that were not given to the socket yet. */
  get unsentBytes(): number {
    return this.#body.length
  }

  // biome-ignore lint/suspicious/noExplicitAny: the overloads of Node's method.
  override end(...args: any[]): this {
    if (!this.#mustWait(args)) return super.end(...(args as Parameters<ServerResponse['end']>))
    this.#endsAfterBody = true
    this.#add(args[0])
    return this
  }

  // biome-ignore lint/suspicious/noExplicitAny: the overloads of Node's method.
  override write(...args: any[]): boolean {
    if (!this.#mustWait(args)) return super.write(...(args as Parameters<ServerResponse['write']>))
    return this.#add(args[0])
  }

  /** Whoever writes hears that there is room when the last slice is gone. */
  override emit(event: string | symbol, ...args: unknown[]): boolean {
    if (event === 'drain' && this.#body.length > 0 && !this.#sendSlices()) return true
    return super.emit(event, ...args)
  }

  #mustWait(args: { length?: number }[]): boolean {
    const isLarge = args.length === 1 && (args[0]?.length ?? 0) > SLICE_BYTES
    return isLarge || this.#body.length > 0
  }

  /** @returns whether there is room for more. */
  #add(chunk: string | Uint8Array | undefined): boolean {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : (chunk ?? new Uint8Array())
    const isFirst = this.#body.length === 0
    this.#body = isFirst ? bytes : Buffer.concat([this.#body, bytes])
    return isFirst && this.#sendSlices()
  }

  /** Sends what the socket takes now. @returns whether there is room for more. */
  #sendSlices(): boolean {
    while (this.#body.length > SLICE_BYTES) {
      const slice = this.#body.subarray(0, SLICE_BYTES)
      this.#body = this.#body.subarray(SLICE_BYTES)
      if (!super.write(slice)) return false
    }
    const last = this.#body
    this.#body = new Uint8Array()
    if (!this.#endsAfterBody) return super.write(last)
    super.end(last)
    return false
  }
}
