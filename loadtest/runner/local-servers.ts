/** Servers on this machine to load: simulated pictures, jobs in memory or on a Valkey that several of them share. */

import { Advice } from '../../scripts/deploy/kube.ts'
import { startScriptedTrino } from '../../test/fakes/scripted-trino.ts'
import { startFakeXdp } from '../../test/fakes/xdp.ts'
import { eventually } from '../../test/support/eventually.ts'
import { startServer, startSimulatedRuntime } from '../../test/support/process.ts'
import { startValkey } from '../../test/support/valkey.ts'
import { readTarget } from './target.ts'

export interface LocalOptions {
  /** More than one share a Valkey. */
  readonly replicas: number
  /** Replicas of the runtime, as processes; absent: the server draws by itself. They share the slots evenly. */
  readonly runtimes?: number | undefined
  readonly concurrency: number
  readonly queue: number
  /** How long a picture takes, in milliseconds. */
  readonly serviceMs: number
  /** Starts fakes of Trino and XDP, which answer at once. */
  readonly data: boolean
}

export interface LocalServers {
  readonly urls: readonly string[]
  /** In words, for the report. */
  readonly description: string
  stop(): Promise<void>
}

/** Starts everything on free ports of 127.0.0.1. */
export async function startLocalServers(options: LocalOptions): Promise<LocalServers> {
  const { replicas, runtimes, queue, serviceMs } = options
  const stops: (() => Promise<unknown>)[] = []
  const stop = async () => {
    for (const each of stops.reverse()) await each()
  }
  try {
    const target = {
      ...{ name: 'simulated', queue, defaults: { width: 64, height: 64, num_inference_steps: 1 } },
      ...(await runtimeOf(options, stops)),
    }
    const env: Record<string, string> = {
      RATE_LIMIT_PER_MINUTE: '0',
      IMAGE_URL_KEY: 'one-key-for-all-servers-of-a-load-test',
      // Pictures and ended jobs are kept so long: an hour's soak then shows what does not go with them.
      IMAGE_TTL_SECONDS: '600',
      RUNTIMES: JSON.stringify([target]),
    }
    if (replicas > 1) {
      const valkey = await startValkey()
      stops.push(() => valkey.stop())
      Object.assign(env, { JOBS_BACKEND: 'valkey', IMAGES_BACKEND: 'valkey', VALKEY_URL: valkey.url })
    }
    if (options.data) {
      const trino = await startScriptedTrino()
      stops.push(() => trino.stop())
      const xdp = await startFakeXdp()
      stops.push(() => xdp.stop())
      const { baseUrl, accessKey, secretKey } = xdp
      // What is under test is the way through the server; a scripted Trino cannot tell whether a query reads.
      Object.assign(env, { TRINO_URL: trino.url, TRINO_USER: 'loadtest', TRINO_ALLOW_WRITES: 'true' })
      Object.assign(env, { XDP_BASE_URL: baseUrl, XDP_ACCESS_KEY: accessKey, XDP_SECRET_KEY: secretKey })
    }
    const urls: string[] = []
    for (let replica = 0; replica < replicas; replica += 1) {
      const server = await startServer('node', env)
      stops.push(() => server.stop())
      urls.push(server.url)
      // Only ready replicas count, and the server finds out one by one.
      await eventually(async () => {
        const found = (await readTarget({ url: server.url })).replicas
        if (found !== runtimes) throw new Error(`${server.url} uses ${found} of ${runtimes} replicas.`)
      })
    }
    const jobs = replicas > 1 ? `${replicas} servers on one Valkey` : 'One server, jobs in memory'
    return {
      urls,
      description: `${jobs}; simulated target of ${serviceMs} ms a picture${runtimes === undefined ? '' : `, ${runtimes} replicas`}`,
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

/** What draws: the server itself, or runtimes that are started here, with their part of RUNTIMES. */
async function runtimeOf(
  { runtimes, concurrency, serviceMs }: LocalOptions,
  stops: (() => Promise<unknown>)[],
): Promise<Record<string, unknown>> {
  if (runtimes === undefined) return { kind: 'simulated', concurrency, options: { msPerStep: serviceMs } }
  const slots = concurrency / runtimes
  if (!Number.isInteger(slots) || slots < 1)
    throw new Advice(
      `--concurrency ${concurrency} cannot be shared by --runtimes ${runtimes}: make it a multiple.`,
    )
  const urls: string[] = []
  for (let index = 0; index < runtimes; index += 1) {
    const runtime = await startSimulatedRuntime({ msPerStep: serviceMs, concurrency: slots })
    stops.push(() => runtime.stop())
    urls.push(runtime.url)
  }
  return { kind: 'kserve', model: 'model', urls, slots }
}
