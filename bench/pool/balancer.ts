/** What a Service of Kubernetes is to a client: a replica at random for each new connection, which then stays with it. */
import { type AddressInfo, connect, createServer } from 'node:net'

/** Listens on a free port of 127.0.0.1; resolves with its URL. */
export async function startRandomBalancer(urls: readonly string[]): Promise<string> {
  const server = createServer((client) => {
    const { hostname, port } = new URL(urls[Math.floor(Math.random() * urls.length)] as string)
    const upstream = connect(Number(port), hostname)
    client.pipe(upstream).pipe(client)
    client.on('error', () => upstream.destroy())
    upstream.on('error', () => client.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
