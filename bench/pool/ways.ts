/** The ways to many replicas that the measurement compares; each starts replicas of its own. */
import { request } from 'undici'
import { lockedEnvironment } from '../../scripts/python-env.ts'
import { ROOT, type Running, start, startServer } from '../../test/support/process.ts'

export interface Way {
  /** Where a POST of a prompt asks for a picture. */
  readonly url: string
  /** Pictures so far, by replica. */
  made(): Promise<readonly number[]>
  /** Told of the answer with a picture. */
  onAnswer?(text: string): void
  stop(): Promise<void>
}

export interface Size {
  readonly replicas: number
  /** How long a picture takes. */
  readonly serviceMs: number
  /** How many may wait. */
  readonly queue: number
}

const STEPS = 5

/** The server knows the replicas. */
export const withPool = (size: Size) => withServer(size, (urls) => ({ urls, slots: 1 }))

/** The server knows one address, behind which a balancer chooses a replica for each connection. */
export const withBalancer = (size: Size) =>
  withServer(size, (_, url) => ({ url, concurrency: size.replicas }))

async function withServer(
  { replicas, serviceMs, queue }: Size,
  where: (urls: readonly string[], balancer: string) => Record<string, unknown>,
): Promise<Way> {
  const runtimes = await start({
    command: process.execPath,
    args: ['bench/pool/replicas.ts'],
    env: { REPLICAS: String(replicas), MS_PER_STEP: String(serviceMs / STEPS) },
  })
  const { urls } = runtimes.log.find((entry) => 'urls' in entry) as { urls: readonly string[] }
  const target = {
    ...{ name: 'pool', kind: 'kserve', model: 'model', queue },
    defaults: { width: 64, height: 64, num_inference_steps: STEPS },
    ...where(urls, runtimes.url),
  }
  const server = await startServer('node', {
    ...{ LOG_LEVEL: 'info', RATE_LIMIT_PER_MINUTE: '0', RUNTIMES: JSON.stringify([target]) },
  }).catch(async (error) => {
    await runtimes.stop()
    throw error
  })
  return {
    url: `${server.url}/api/images`,
    made: () => Promise.all(urls.map(finishedBy)),
    stop: () => stopAll([server, runtimes]),
  }
}

async function finishedBy(url: string): Promise<number> {
  const { finished } = (await (await request(`${url}/stats`)).body.json()) as { finished: number }
  return finished
}

/** Ray Serve. Its replicas say in every answer who they are. */
export async function withRayServe({ replicas, serviceMs, queue }: Size): Promise<Way> {
  const ray = await start({
    command: lockedEnvironment({ name: 'pool', locks: [`${ROOT}bench/pool/requirements.lock`] }),
    args: ['bench/pool/ray_serve.py'],
    env: {
      ...{ REPLICAS: String(replicas), SERVICE_MS: String(serviceMs), QUEUE: String(queue) },
      RAY_USAGE_STATS_ENABLED: '0',
    },
  })
  const made = new Map<string, number>()
  return {
    url: ray.url,
    onAnswer(text) {
      const { replica } = JSON.parse(text) as { replica: string }
      made.set(replica, (made.get(replica) ?? 0) + 1)
    },
    // A replica that never answered is not known by name.
    made: async () => Array.from({ length: replicas }, (_, index) => [...made.values()][index] ?? 0),
    stop: () => stopAll([ray]),
  }
}

async function stopAll(processes: readonly Running[]): Promise<void> {
  for (const one of processes) await one.stop()
}
