/** The address that a connection comes from. It is never taken from a header, which anybody can send. */
import type { Context } from 'hono'

/** What @hono/node-server passes to the app beside a request. */
interface Connection {
  readonly incoming?: { readonly socket?: { readonly remoteAddress?: string } }
}

/** The peer's IP address; undefined where there is no connection. */
export function peerAddress(c: Context): string | undefined {
  const { incoming } = (c.env ?? {}) as Connection
  return incoming?.socket?.remoteAddress
}
