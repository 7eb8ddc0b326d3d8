/**
 * REPLICAS simulated runtimes with one slot each in one process, each on a port of its own: their pictures take time and
 * next to no CPU. Prints the replicas' addresses as `urls`, and as `url` the one of a balancer before all of them.
 */
import { serve } from '@hono/node-server'
import { createSimulatedServer } from '../../src/runtimes/simulated/server.ts'
import { simulatedOptions } from '../../src/runtimes/simulated/simulated.ts'
import { startRandomBalancer } from './balancer.ts'

/** As many as wait at the project's own runtime. */
const QUEUE = 8
const msPerStep = Number(process.env.MS_PER_STEP)

async function replica(): Promise<string> {
  const options = simulatedOptions.parse({ msPerStep, concurrency: 1, queue: QUEUE })
  const { fetch } = createSimulatedServer({ ...options, modelName: 'model' })
  const port = await new Promise<number>((resolve) => {
    serve({ fetch, hostname: '127.0.0.1', port: 0 }, (address) => resolve(address.port))
  })
  return `http://127.0.0.1:${port}`
}

const urls = await Promise.all(Array.from({ length: Number(process.env.REPLICAS) }, replica))
process.stdout.write(`${JSON.stringify({ urls, url: await startRandomBalancer(urls) })}\n`)
process.once('SIGTERM', () => process.exit(0))
