/** What idle WebSocket connections hold on to, after garbage collection, per connection. */
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { type Running, start } from '../test/support/process.ts'

export interface Held {
  /** JavaScript heap and buffers, in bytes per connection. */
  readonly held: number
  readonly rss: number
}

/** Starts a Node process that tells its memory. */
export function startProbed(entry: string, env: Record<string, string> = {}): Promise<Running> {
  return start({
    command: process.execPath,
    args: ['--expose-gc', '--import', './bench/baselines/memory-probe.ts', entry],
    env: { PORT: '0', LOG_LEVEL: 'info', RATE_LIMIT_PER_MINUTE: '0', ...env },
  })
}

async function memoryOf({ child, log }: Running): Promise<Held> {
  const seen = log.length
  // What was closed or sent last is let go within this time.
  await sleep(500)
  child.kill('SIGUSR2')
  for (;;) {
    const told = log.slice(seen).find(({ event }) => event === 'memory')
    if (told) return { held: told.held as number, rss: told.rss as number }
    await sleep(20)
  }
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
  const before = await memoryOf(server)
  const sockets = await many(count)
  const after = await memoryOf(server)
  await end(sockets)
  return { held: (after.held - before.held) / count, rss: (after.rss - before.rss) / count }
}
