/** The one server without authentication that most topics speak to, and its slow runtime. */
import { afterAll, beforeAll } from 'vitest'
import { type Engine, type Running, startServer, startSimulatedRuntime } from '../../support/process.ts'
import { statsOf, TINY } from '../../support/requests.ts'

export const LONG = { ...TINY, model: 'slow', num_inference_steps: 200 }

/** What the topics of a server without authentication work with. */
export type SocketSuite = ReturnType<typeof createSocketSuite>

/** Starts the server before all tests, and stops it after them. Call it within a `describe`. */
export function createSocketSuite(engine: Engine) {
  let runtime: Running
  let server: Running

  beforeAll(async () => {
    runtime = await startSimulatedRuntime({ msPerStep: 50 })
    server = await startServer(engine, {
      LOG_LEVEL: 'debug',
      RATE_LIMIT_PER_MINUTE: '0',
      ORPHAN_GRACE_MS: '100',
      WS_IDLE_MS: '3000',
      WS_MAX_CALLS: '4',
      WS_MAX_MESSAGE_BYTES: '4096',
      WS_MAX_BUFFERED_BYTES: '65536',
      RUNTIMES: JSON.stringify([
        { name: 'quick', kind: 'simulated', options: { msPerStep: 1 }, concurrency: 4, queue: 100 },
        { name: 'slow', kind: 'kserve', url: runtime.url, concurrency: 8, queue: 100 },
      ]),
    })
  })
  afterAll(async () => {
    await server?.stop()
    await runtime?.stop()
  })

  return {
    get server() {
      return server
    },
    stats: () => statsOf(runtime),
  }
}
