import { serve } from '@hono/node-server'
import { afterEach, expect, test } from 'vitest'
import { eventually } from '../../test/support/eventually.ts'
import { createSimulatedServer, type SimulatedStats } from './simulated.server.ts'
import { simulatedOptions } from './simulated.ts'

const MS_PER_STEP = 100
const servers: ReturnType<typeof serve>[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

/** On a socket, because leaving is what is tested. */
async function listen(options: object) {
  const app = createSimulatedServer({
    ...simulatedOptions.parse({ msPerStep: MS_PER_STEP, ...options }),
    modelName: 'model',
  })
  const url = await new Promise<string>((resolve) => {
    servers.push(
      serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, ({ port }) =>
        resolve(`http://127.0.0.1:${port}`),
      ),
    )
  })
  return {
    // Past the socket, where nothing but a turn of the event loop lies between a look and what follows it.
    stats: async () => (await (await app.request('/stats')).json()) as SimulatedStats,
    predict: ({ accept, signal }: { accept: string; signal?: AbortSignal }) =>
      fetch(`${url}/v1/models/model:predict`, {
        method: 'POST',
        headers: { accept, 'content-type': 'application/json' },
        body: JSON.stringify({
          instances: [{ prompt: 'a fox', width: 64, height: 64, num_inference_steps: 100 }],
        }),
        ...(signal ? { signal } : {}),
      }),
  }
}

test.each(['application/json', 'text/event-stream'])(
  'who leaves stops the generation within a step: %s',
  async (accept) => {
    const { stats, predict } = await listen({})
    const leave = new AbortController()
    const call = predict({ accept, signal: leave.signal }).then((response) => response.text())
    call.catch(() => {})
    await eventually(async () => expect((await stats()).steps).toBeGreaterThan(1))
    const { steps } = await stats()
    leave.abort()
    await expect(call).rejects.toThrow()
    await eventually(async () =>
      expect(await stats()).toMatchObject({ started: 1, aborted: 1, finished: 0, running: 0 }),
    )
    // One step that was under way, and one for the time between asking and leaving.
    expect((await stats()).steps).toBeLessThanOrEqual(steps + 2)
  },
)

test.each(['application/json', 'text/event-stream'])(
  'who comes too many is refused at once: %s',
  async (accept) => {
    const { stats, predict } = await listen({ concurrency: 1, queue: 0 })
    const leave = new AbortController()
    predict({ accept, signal: leave.signal }).catch(() => {})
    await eventually(async () => expect((await stats()).running).toBe(1))
    const response = await predict({ accept })
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('1')
    expect(await response.json()).toEqual({ error: expect.any(String) })
    leave.abort()
  },
)
