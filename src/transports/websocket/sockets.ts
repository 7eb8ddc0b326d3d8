/** The sockets of `/ws`, with the package `ws`, on Node and Deno. It needs half the memory per connection that Hono's helper needs. */
import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import { type RawData, type WebSocket, WebSocketServer } from 'ws'
import type { Connection, Opening } from './session.ts'
import type { WebSockets } from './websockets.ts'

type Fetch = (request: Request, bindings: object) => Response | Promise<Response>

/** Options of the HTTP server, which ignores other upgrades, such as h2c, which some clients always offer. */
export const UPGRADES = {
  shouldUpgradeCallback: (request: IncomingMessage) => request.headers.upgrade?.toLowerCase() === 'websocket',
}

/** Out here, because a function that each connection keeps would keep its upgrade request as well. */
const ignore = () => {}

/** Upgrades the requests that `fetch`, the app with all its middleware, accepts. */
export function attachWebSockets({
  server,
  fetch,
  webSockets,
  opened = () => {},
}: {
  readonly server: Server
  readonly fetch: Fetch
  readonly webSockets: WebSockets
  /** Called for each connection that is a WebSocket from now on. */
  readonly opened?: (socket: Socket) => void
}): void {
  const connections = new WeakMap<WebSocket, Connection>()
  function received(this: WebSocket, data: RawData, isBinary: boolean) {
    connections.get(this)?.received(isBinary ? undefined : data.toString())
  }
  function ponged(this: WebSocket) {
    connections.get(this)?.ponged()
  }
  function pinged(this: WebSocket, data: Buffer) {
    connections.get(this)?.pinged(data)
  }
  function closed(this: WebSocket) {
    connections.get(this)?.closed()
  }
  const engine = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    // The connection answers pings itself, because they are charged.
    autoPong: false,
    // Pictures do not compress, and a compressor multiplies the memory of a connection by a hundred.
    perMessageDeflate: false,
    maxPayload: webSockets.limits.maxMessageBytes,
    // The route has checked the offered protocols. A token among them is never echoed.
    handleProtocols: (offered) => (offered.has('mcp') ? 'mcp' : false),
  })

  server.on('upgrade', async (incoming, socket, head) => {
    socket.on('error', ignore)
    let opening: Opening | undefined
    const refusal = await decide(incoming, (accepted) => {
      opening = accepted
    })
    if (!opening) return refuse(incoming.socket, refusal)
    const accepted = opening
    // The TCP connection's end, because a handshake may still fail and then opens nothing.
    if (socket.destroyed) accepted.release()
    else socket.once('close', accepted.release)
    engine.handleUpgrade(incoming, socket, head, (client) => {
      socket.off('error', ignore)
      opened(incoming.socket)
      // `ws` closes by itself after an error.
      client.on('error', ignore)
      connections.set(client, webSockets.open(client, accepted))
      client.on('message', received)
      client.on('ping', pinged)
      client.on('pong', ponged)
      client.on('close', closed)
    })
  })

  async function decide(incoming: IncomingMessage, upgrade: (opening: Opening) => void): Promise<Response> {
    let request: Request
    try {
      const headers = Object.entries(incoming.headersDistinct).flatMap(([name, values]) =>
        (values ?? []).map((value): [string, string] => [name, value]),
      )
      const { url = '/' } = incoming
      // Not as a relative URL: of "//name/ws" the name would be the host.
      const whole = url.startsWith('/') ? `http://${incoming.headers.host}${url}` : url
      request = new Request(new URL(whole), { headers })
    } catch {
      return new Response(null, { status: 400 })
    }
    return await fetch(request, { incoming, upgrade })
  }
}

/** Writes the answer to a refused upgrade by hand, because Node does not. */
async function refuse(socket: Socket, response: Response): Promise<void> {
  const body = Buffer.from(await response.arrayBuffer())
  const headers = [...response.headers].map(([name, value]) => `${name}: ${value}\r\n`).join('')
  socket.end(
    Buffer.concat([
      Buffer.from(
        `HTTP/1.1 ${response.status} ${response.statusText || 'Refused'}\r\n${headers}` +
          `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n`,
      ),
      body,
    ]),
  )
  // A peer that does not close its side would keep the connection for ever.
  socket.destroySoon()
}
