/** Where a connection comes from. Never taken from a header: anybody can send one. */
import type { Context } from 'hono'

/** What the engines' servers hand to the app beside a request: @hono/node-server's, and Deno.serve's. */
interface Connection {
  readonly incoming?: { readonly socket?: { readonly remoteAddress?: string } }
  readonly remoteAddr?: { readonly hostname?: string }
}

/** The peer's IP address; undefined where there is no connection. */
export function peerAddress(c: Context): string | undefined {
  const { incoming, remoteAddr } = (c.env ?? {}) as Connection
  return incoming?.socket?.remoteAddress ?? remoteAddr?.hostname
}
