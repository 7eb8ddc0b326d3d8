/**
 * A balancer of connections, as a Service of Kubernetes is one: it chooses a ready server when a connection opens, and
 * leaves the connection alone from then on, whatever the server says later.
 */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Running } from './process.ts'

export interface TcpBalancer {
  readonly url: string
  stop(): Promise<void>
}

/** Starts one on a free port of 127.0.0.1. A server that refuses the connection is passed over for the next one. */
export async function startTcpBalancer(ready: () => readonly Running[]): Promise<TcpBalancer> {
  const open = new Set<Socket>()
  let next = 0
  const server = createServer({ allowHalfOpen: true }, (client) => {
    open.add(client)
    client.once('close', () => open.delete(client))
    client.on('error', () => {})
    attempt(client, ready().length)
  })

  function attempt(client: Socket, left: number): void {
    const servers = ready()
    const chosen = servers[next++ % Math.max(1, servers.length)]
    if (!chosen || left <= 0) return void client.destroy()
    const { hostname, port } = new URL(chosen.url)
    const upstream = connect({ host: hostname, port: Number(port), allowHalfOpen: true })
    let isConnected = false
    upstream.once('connect', () => {
      isConnected = true
      client.pipe(upstream).pipe(client)
      client.once('close', () => upstream.destroy())
      upstream.once('close', () => client.destroy())
    })
    upstream.on('error', () => {
      if (isConnected) client.destroy()
      else attempt(client, left - 1)
    })
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      for (const socket of open) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
