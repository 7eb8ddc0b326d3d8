/** The address that a connection comes from. It is never taken from a header, which anybody can send. */
import type { Context } from 'hono'

/** What @hono/node-server and Deno.serve pass to the app beside a request. */
interface Connection {
  readonly incoming?: { readonly socket?: { readonly remoteAddress?: string } }
  readonly remoteAddr?: { readonly hostname?: string }
}

/** The peer's IP address; undefined where there is no connection. */
export function peerAddress(c: Context): string | undefined {
  const { incoming, remoteAddr } = (c.env ?? {}) as Connection
  return incoming?.socket?.remoteAddress ?? remoteAddr?.hostname
}
