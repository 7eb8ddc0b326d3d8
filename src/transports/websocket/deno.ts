/** `/ws` on Deno, whose server upgrades requests, pings peers and drops dead ones itself. */
import type { Connection, Opening } from './session.ts'
import type { WebSockets } from './websockets.ts'

type Fetch = (request: Request, bindings: object) => Response | Promise<Response>

/** A handler for Deno.serve that upgrades the requests that `fetch`, the app with all its middleware, accepts. */
export function withWebSockets({
  fetch,
  webSockets,
}: {
  readonly fetch: Fetch
  readonly webSockets: WebSockets
}): (request: Request, info: object) => Promise<Response> {
  return async (request, info) => {
    if (request.headers.get('upgrade')?.toLowerCase() !== 'websocket') return await fetch(request, info)
    let opening: Opening | undefined
    const refusal = await fetch(request, {
      ...info,
      upgrade: (accepted: Opening) => {
        opening = accepted
      },
    })
    if (!opening) return refusal
    const accepted: Opening = opening
    let upgraded: ReturnType<typeof Deno.upgradeWebSocket>
    try {
      upgraded = Deno.upgradeWebSocket(request, {
        // Deno pings after half of this time, and drops peers that have not answered at its end.
        idleTimeout: Math.ceil((2 * webSockets.limits.pingMs) / 1000),
      })
    } catch {
      return new Response('This is no WebSocket handshake (RFC 6455).\n', { status: 400 })
    }
    const { socket, response } = upgraded
    // Deno's option `protocol` finds nothing in a list without blanks, such as `ws` sends.
    if (accepted.protocol) response.headers.set('Sec-WebSocket-Protocol', accepted.protocol)
    let connection: Connection | undefined
    socket.onopen = () => {
      connection = webSockets.open(socket, accepted)
    }
    socket.onmessage = ({ data }) => connection?.received(typeof data === 'string' ? data : undefined)
    socket.onclose = () => connection?.closed()
    socket.onerror = () => {}
    return response
  }
}
