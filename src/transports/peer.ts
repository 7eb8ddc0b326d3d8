/** What the engine knows of a request beside its headers, which anybody can send: the peer's address, the raw target. */
import type { Context } from 'hono'

/** What @hono/node-server passes to the app beside a request. */
interface Connection {
  readonly incoming?: { readonly url?: string; readonly socket?: { readonly remoteAddress?: string } }
}

/** The peer's IP address; undefined where there is no connection. */
export function peerAddress(c: Context): string | undefined {
  const { incoming } = (c.env ?? {}) as Connection
  return incoming?.socket?.remoteAddress
}

/** The request target as it was sent, in origin or absolute form; undefined where there is no connection. */
export function requestTarget(c: Context): string | undefined {
  return ((c.env ?? {}) as Connection).incoming?.url
}
