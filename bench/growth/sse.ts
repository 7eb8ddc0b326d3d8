/** Callers over HTTP that wait for queued jobs and hear of them by server-sent events. */
import { Agent, request } from 'undici'
import type { Running } from '../../test/support/process.ts'
import { probe, startProbed } from '../probed.ts'
import type { Costs, Law } from './law.ts'

/** Opened at once. */
const AT_ONCE = 50
/** Opened before anything is measured, so that code is compiled; they stay, so that the others need memory of their own. */
const WARM_UP = 100
const OPENING = 'opening one, ms'
const RSS = 'RSS of one, KiB'

export function sseLaws({ quick }: { quick: boolean }): Law[] {
  return [
    {
      ...{ where: 'server, jobs in memory', by: 'waiters by SSE', small: quick ? 100 : 200 },
      // Memory that was taken once is not given back, so that only the first waiters of a process show what they take.
      ...{ rounds: quick ? 1 : 3, once: true, floors: { [RSS]: 32 } },
      setUp: async (n) => ({ round: () => openWaiters(n), async close() {} }),
    },
  ]
}

async function openWaiters(count: number): Promise<Costs> {
  const server = await startProbed('src/main.node.ts', {
    RUNTIMES: JSON.stringify([
      {
        ...{ name: 'bench', kind: 'simulated', concurrency: 4, queue: 20_000, queuePerCaller: 20_000 },
        defaults: { width: 64, height: 64, num_inference_steps: 100 },
        options: { msPerStep: 60_000 },
      },
    ]),
    JOB_DEADLINE_MS: '86400000',
    NODE_OPTIONS: '--max-semi-space-size=8',
  })
  try {
    const first = await open(server, WARM_UP)
    const before = await probe(server)
    const started = performance.now()
    const waiters = await open(server, count)
    const openedMs = performance.now() - started
    const after = await probe(server)
    await Promise.all([first.destroy(), waiters.destroy()])
    return { [OPENING]: openedMs / count, [RSS]: (after.rss - before.rss) / count / 1024 }
  } finally {
    server.child.kill('SIGKILL')
    await server.stop()
  }
}

/** Each waiter has heard of its job once. Destroying the agent ends them all. */
async function open(server: Running, count: number): Promise<Agent> {
  const agent = new Agent({ connections: null, headersTimeout: 0, bodyTimeout: 0 })
  const one = async () => {
    const { statusCode, body } = await request(`${server.url}/api/images`, {
      ...{ method: 'POST', dispatcher: agent, body: JSON.stringify({ prompt: 'a fox' }) },
      headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    })
    if (statusCode !== 200) throw new Error(`a waiter was answered ${statusCode}: ${await body.text()}`)
    await new Promise((resolve) => body.once('data', resolve))
    body.on('error', () => {})
    body.resume()
  }
  for (let opened = 0; opened < count; opened += AT_ONCE)
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - opened) }, one))
  return agent
}
