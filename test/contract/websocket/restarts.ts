/** A server that ends: by a crash, and in order. */
import { describe, expect, test } from 'vitest'
import { MCPWebSocketClient } from '../../../src/client/client.ts'
import { startHeldRuntime } from '../../fakes/held-runtime.ts'
import { eventually } from '../../support/eventually.ts'
import { openPlainSocket } from '../../support/plain-socket.ts'
import { type Engine, startServer } from '../../support/process.ts'
import { TINY } from '../../support/requests.ts'
import { upgradeStatus, wsUrl } from './peers.ts'

export function restarts(engine: Engine): void {
  describe('a server that restarts', () => {
    const CLIENTS = 50
    test('under fifty clients: all come back, and every picture is finished once', async () => {
      const runtime = await startHeldRuntime()
      const { stats } = runtime
      const env = {
        LOG_LEVEL: 'info',
        RATE_LIMIT_PER_MINUTE: '0',
        RUNTIMES: JSON.stringify([
          { name: 'held', kind: 'kserve', url: runtime.url, concurrency: 2 * CLIENTS, queue: 10 * CLIENTS },
        ]),
      }
      let server = await startServer(engine, env)
      const port = new URL(server.url).port
      const clients = Array.from(
        { length: CLIENTS },
        () =>
          // As often as it takes: the server comes back when it comes back.
          new MCPWebSocketClient({ url: wsUrl(server), reconnectInterval: 200, maxReconnectAttempts: 1e6 }),
      )
      try {
        await Promise.all(clients.map((client) => client.connect()))
        const calls = Promise.all(clients.map((client) => client.executeTool('generate_image', TINY)))
        await eventually(() => expect(stats.running).toBe(CLIENTS))
        server.child.kill('SIGKILL')
        await eventually(() => expect(stats).toMatchObject({ running: 0, aborted: CLIENTS }))
        server = await startServer(engine, { ...env, PORT: port })
        await eventually(() => expect(stats.running).toBe(CLIENTS))
        runtime.release()
        const pictures = await calls
        expect(new Set(pictures.map(({ data }) => data.image_id)).size).toBe(CLIENTS)
        expect(stats.started - stats.aborted).toBe(CLIENTS)
        expect(clients.filter(({ connected }) => connected)).toHaveLength(CLIENTS)
      } finally {
        await Promise.all(clients.map((client) => client.close()))
        await server.stop()
        await runtime.stop()
      }
    })

    test('finishes what runs, then closes with 1012, and takes nobody new', async () => {
      const runtime = await startHeldRuntime()
      const server = await startServer(engine, {
        LOG_LEVEL: 'info',
        RUNTIMES: JSON.stringify([{ name: 'held', kind: 'kserve', url: runtime.url }]),
      })
      const url = wsUrl(server)
      const busy = await openPlainSocket(url)
      const idle = await openPlainSocket(url)
      const call = busy.request('tools/call', { name: 'generate_image', arguments: TINY })
      await eventually(() => expect(runtime.stats.running).toBe(1))
      const stopped = server.stop()
      expect((await idle.closed).code).toBe(1012)
      expect((await upgradeStatus(url)).status).toBe(503)
      runtime.release()
      expect(await call).toMatchObject({ structuredContent: { state: 'succeeded' } })
      expect((await busy.closed).code).toBe(1012)
      expect(await stopped).toBe(0)
      await runtime.stop()
    })
  })
}
