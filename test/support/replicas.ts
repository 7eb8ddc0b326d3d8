/** Several servers on one Valkey, which keeps jobs and pictures, and one runtime; and a caller that follows its handles through anything. */
import type { SimulatedStats } from '../../src/runtimes/simulated/server.ts'
import { type Engine, type Running, startServer, startSimulatedRuntime } from './process.ts'
import { startValkey, type ValkeyServer } from './valkey.ts'

export const TOKEN = 'a-token-that-all-replicas-know'
const HEADERS = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' }
/** Pause before a call is tried again elsewhere, in milliseconds. */
const RETRY_MS = 100
/** Nobody waits longer than this for a picture, in milliseconds. */
const PATIENCE_MS = 120_000

/** A job as REST tells it. */
export interface Answer {
  readonly status: number
  readonly state: string
  readonly job_id: string
  readonly image_id: string
  readonly code?: string
  readonly images?: readonly unknown[]
}

export interface Replicas {
  readonly valkey: ValkeyServer
  readonly servers: Running[]
  stats(): Promise<SimulatedStats>
  /** A server in place of the one at `index`, or one more. */
  start(index: number, engine?: Engine): Promise<void>
  stop(): Promise<void>
}

/** Starts everything; `engines` one per server. `concurrency` is the target's, which the runtime itself does not limit. */
export async function startReplicas(options: {
  readonly engines: readonly Engine[]
  readonly concurrency: number
  readonly msPerStep: number
  readonly env?: Record<string, string>
}): Promise<Replicas> {
  const { engines, concurrency, msPerStep } = options
  const runtime = await startSimulatedRuntime({ msPerStep })
  const valkey = await startValkey()
  const env = {
    MCP_AUTH_TOKEN: TOKEN,
    // Hundreds of jobs that are asked for and waited for by one caller.
    RATE_LIMIT_PER_MINUTE: '1000000',
    IMAGE_URL_KEY: 'one-key-for-all-servers-of-the-tests',
    JOBS_BACKEND: 'valkey',
    VALKEY_URL: valkey.url,
    JOB_LOCK_MS: '2000',
    IMAGES_BACKEND: 'valkey',
    RUNTIMES: JSON.stringify([
      {
        ...{ name: 'gpu', kind: 'kserve', url: runtime.url, concurrency, queue: 1000, queuePerCaller: 1000 },
        defaults: { width: 64, height: 64, num_inference_steps: 10 },
      },
    ]),
    ...options.env,
  }
  const servers: Running[] = []
  const start = async (index: number, engine: Engine = engines[index] ?? 'node') => {
    servers[index] = await startServer(engine, env)
  }
  await Promise.all(engines.map((_, index) => start(index)))
  return {
    ...{ valkey, servers, start },
    async stats() {
      return (await (await fetch(`${runtime.url}/stats`)).json()) as SimulatedStats
    },
    async stop() {
      valkey.thaw()
      await Promise.all(servers.map((server) => server.stop()))
      await runtime.stop()
      await valkey.stop()
    },
  }
}

/** One REST call to one server. @throws where no answer came. */
export async function call(
  server: Pick<Running, 'url'>,
  path: string,
  init: { method?: string; body?: unknown; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const { method = init.body === undefined ? 'GET' : 'POST', body, headers = {} } = init
  const response = await fetch(`${server.url}${path}`, {
    method,
    headers: { ...HEADERS, ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(60_000),
  })
  const text = await response.text()
  return { ...(text === '' ? {} : JSON.parse(text)), status: response.status }
}

/**
 * Asks for a picture as a careful client does: under a key, again elsewhere when the connection breaks or the server
 * is busy or stops, then by its handle at whichever server there is, until the job has ended.
 */
export async function generate(options: {
  readonly servers: () => readonly Pick<Running, 'url'>[]
  readonly key: string
  readonly body?: Record<string, unknown>
  /** Told of every answer that is neither the picture nor a handle to it. */
  readonly onFailure?: (failure: Answer | Error) => void
}): Promise<Answer> {
  const { servers, key, body = {}, onFailure } = options
  let handle: string | undefined
  const until = Date.now() + PATIENCE_MS
  for (let attempt = 0; ; attempt += 1) {
    if (Date.now() > until)
      throw new Error(`${key}: no picture within ${PATIENCE_MS / 1000} s, job ${handle}`)
    const all = servers()
    const server = all[(attempt + key.length + Number(key.match(/\d+$/)?.[0] ?? 0)) % all.length]
    if (!server) throw new Error('there is no server')
    try {
      const answer = handle
        ? await call(server, `/api/jobs/${handle}`, { headers: { prefer: 'wait=5' } })
        : await call(server, '/api/images', {
            body: { prompt: key, ...body },
            headers: { 'idempotency-key': key, prefer: 'wait=5' },
          })
      if (['failed', 'cancelled', 'expired', 'succeeded'].includes(answer.state)) return answer
      if (answer.status === 202 || answer.status === 200) {
        handle = answer.job_id
        continue
      }
      onFailure?.(answer)
      if (answer.status !== 503) throw new Error(`${key}: ${JSON.stringify(answer)}`)
    } catch (error) {
      if ((error as Error).message.startsWith(key)) throw error
      onFailure?.(error as Error)
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
  }
}
