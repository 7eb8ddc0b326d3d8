/**
 * A proxy in front of Valkey that can hold answers back on some of the connections, as a server that has much to do for
 * them does, while it answers the others.
 */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export interface ValkeyProxy {
  readonly url: string
  /** Holds the answers on connections that ever sent this text, from now on. */
  hold(text: string): void
  /** Hands out what was held, and holds nothing more. */
  release(): void
  /** Ends all connections; new ones are accepted. */
  cut(): void
  stop(): Promise<void>
}

interface Link {
  readonly client: Socket
  readonly server: Socket
  /** What the client sent last, long enough to find a word in. */
  sent: string
}

/** Characters of what a connection sent that are searched. */
const SEARCHED = 100_000

/** Starts one in front of the Valkey at `url`, on a free port of 127.0.0.1. */
export async function startValkeyProxy({ url }: { url: string }): Promise<ValkeyProxy> {
  const { hostname, port } = new URL(url)
  const links = new Set<Link>()
  let held: string | undefined

  const apply = (link: Link) => {
    if (held !== undefined && link.sent.includes(held)) link.server.pause()
    else link.server.resume()
  }
  const listener = createServer((client) => {
    const server = connect({ host: hostname, port: Number(port) })
    const link: Link = { client, server, sent: '' }
    links.add(link)
    client.on('data', (bytes) => {
      link.sent = (link.sent + bytes.toString('latin1')).slice(-SEARCHED)
      apply(link)
      server.write(bytes)
    })
    server.on('data', (bytes) => client.write(bytes))
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      one.on('error', () => {})
      one.on('close', () => {
        links.delete(link)
        other.destroy()
      })
    }
  })
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const cut = () => {
    for (const { client } of links) client.destroy()
  }

  return {
    url: `redis://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    hold(text) {
      held = text
      for (const link of links) apply(link)
    },
    release() {
      held = undefined
      for (const link of links) apply(link)
    },
    cut,
    async stop() {
      cut()
      await new Promise((resolve) => listener.close(resolve))
    },
  }
}
