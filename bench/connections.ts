/** What idle WebSocket connections hold on to, after garbage collection, per connection. */
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'
import type { Running } from '../test/support/process.ts'
import { probe } from './probed.ts'

export interface Held {
  /** JavaScript heap and buffers, in bytes per connection. */
  readonly held: number
  readonly rss: number
}

/** Opens `count` connections, says `messages` on each, and measures what they hold. */
export async function heldByConnections(
  server: Running,
  { path, count, messages = [] }: { path: string; count: number; messages?: readonly string[] },
): Promise<Held> {
  const open = () =>
    new Promise<WebSocket>((resolve, reject) => {
      const socket = new WebSocket(`${server.url.replace('http', 'ws')}${path}`, ['mcp'])
      socket.on('error', reject)
      socket.on('open', () => {
        for (const message of messages) socket.send(message)
        resolve(socket)
      })
    })
  const many = async (total: number) => {
    const sockets: WebSocket[] = []
    while (sockets.length < total) sockets.push(...(await Promise.all(Array.from({ length: 50 }, open))))
    return sockets
  }
  const end = async (sockets: WebSocket[]) => {
    for (const socket of sockets) socket.terminate()
    await sleep(500)
  }
  // Code is compiled before anything is counted; more would leave memory behind that the counted ones take again.
  await end(await many(100))
  const before = await probe(server)
  const sockets = await many(count)
  const after = await probe(server)
  await end(sockets)
  return { held: (after.held - before.held) / count, rss: (after.rss - before.rss) / count }
}
