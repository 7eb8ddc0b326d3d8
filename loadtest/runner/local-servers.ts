/** Servers on this machine to load: simulated pictures, jobs in memory or on a Valkey that several of them share. */
import { startScriptedTrino } from '../../test/fakes/scripted-trino.ts'
import { startFakeXdp } from '../../test/fakes/xdp.ts'
import { startServer } from '../../test/support/process.ts'
import { startValkey } from '../../test/support/valkey.ts'

export interface LocalOptions {
  /** More than one share a Valkey. */
  readonly replicas: number
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
  const { replicas, concurrency, queue, serviceMs } = options
  const stops: (() => Promise<unknown>)[] = []
  const stop = async () => {
    for (const each of stops.reverse()) await each()
  }
  try {
    const env: Record<string, string> = {
      RATE_LIMIT_PER_MINUTE: '0',
      IMAGE_URL_KEY: 'one-key-for-all-servers-of-a-load-test',
      // Pictures and ended jobs are kept so long: an hour's soak then shows what does not go with them.
      IMAGE_TTL_SECONDS: '600',
      RUNTIMES: JSON.stringify([
        {
          ...{ name: 'simulated', kind: 'simulated', concurrency, queue },
          defaults: { width: 64, height: 64, num_inference_steps: 1 },
          options: { msPerStep: serviceMs },
        },
      ]),
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
    }
    const jobs = replicas > 1 ? `${replicas} servers on one Valkey` : 'One server, jobs in memory'
    return {
      urls,
      description: `${jobs}; simulated target of ${serviceMs} ms a picture`,
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}
