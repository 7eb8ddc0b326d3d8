/** Several servers on one Valkey, which keeps jobs and pictures, and one runtime; and a caller that follows its handles through anything. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import type { SimulatedStats } from '../../src/runtimes/simulated/server.ts'
import { eventually } from './eventually.ts'
import { type Engine, type Running, startServer } from './process.ts'
import { startValkey, type ValkeyServer } from './valkey.ts'

export const TOKEN = 'a-token-that-all-replicas-know'
const HEADERS = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' }
/** Pause before a call is tried again elsewhere, in milliseconds. */
const RETRY_MS = 100
/** Ends a hang: nobody waits longer than this for a picture, in milliseconds. */
const PATIENCE_MS = 180_000
/** Ends a hang: no answer takes longer, in milliseconds. More than the longest `Prefer: wait` of these tests. */
const ANSWER_MS = 120_000
/** Pause between two looks at the readiness of all servers, in milliseconds. */
const LOOK_MS = 50

/** A job as REST tells it. */
export interface Answer {
  readonly status: number
  readonly state: string
  readonly job_id: string
  readonly image_id: string
  readonly code?: string
  readonly images?: readonly unknown[]
}

/** A server as a caller sees it. */
type Address = Pick<Running, 'url'>

export interface Replicas {
  readonly valkey: ValkeyServer
  readonly servers: Running[]
  stats(): Promise<SimulatedStats>
  /** A server in place of the one at `index`, or one more. */
  start(index: number, engine?: Engine): Promise<void>
  stop(): Promise<void>
}

/**
 * Starts a Valkey and the servers; `engines` one per server. `concurrency` is the target's, which the runtime itself does
 * not limit. The runtime tells its counts at /stats, and is the test's to stop.
 */
export async function startReplicas(options: {
  readonly engines: readonly Engine[]
  readonly concurrency: number
  readonly runtime: Address
  readonly env?: Record<string, string>
}): Promise<Replicas> {
  const { engines, concurrency, runtime } = options
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
      await valkey.stop()
    },
  }
}

/** One REST call to one server. @throws where no answer came. */
export async function call(
  server: Address,
  path: string,
  init: { method?: string; body?: unknown; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const { method = init.body === undefined ? 'GET' : 'POST', body, headers = {} } = init
  const response = await fetch(`${server.url}${path}`, {
    method,
    headers: { ...HEADERS, ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(ANSWER_MS),
  })
  const text = await response.text()
  return { ...(text === '' ? {} : JSON.parse(text)), status: response.status }
}

/**
 * Asks for a picture as a careful client does: under a key, again elsewhere when the connection breaks or the server
 * is busy or stops, then by its handle at whichever server there is, until the job has ended.
 */
export async function generate(options: {
  readonly servers: () => readonly Address[]
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
    if (!server) {
      await sleep(RETRY_MS)
      continue
    }
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
    await sleep(RETRY_MS)
  }
}

export interface Load {
  /** Every answer and broken connection so far that is neither a picture nor a handle to one. */
  readonly failures: (Answer | Error)[]
  /** Resolves when so many more pictures were made. */
  madeMore(count: number): Promise<void>
  /** Asks for nothing more; resolves with all answers when those under way are there. */
  finish(): Promise<Answer[]>
}

/** Callers who each ask for the next picture when they have the last one: as much load as the machine can take. */
export function startLoad(options: {
  callers: number
  servers: () => readonly Address[]
  /** A second load needs a name of its own: under the same keys it would get the pictures of the first. */
  name?: string
}): Load {
  const { callers, servers, name = 'load' } = options
  const failures: (Answer | Error)[] = []
  const answers: Answer[] = []
  let asked = 0
  let isOver = false
  const ask = async () => {
    while (!isOver) {
      const key = `${name}-${asked++}`
      answers.push(await generate({ servers, key, onFailure: (failure) => failures.push(failure) }))
    }
  }
  const running = Promise.all(Array.from({ length: callers }, ask))
  // Whoever waits hears of it; nobody may be waiting when it happens.
  running.catch(() => {})
  return {
    failures,
    async madeMore(count) {
      const enough = answers.length + count
      await Promise.race([running, eventually(() => expect(answers.length).toBeGreaterThanOrEqual(enough))])
    },
    async finish() {
      isOver = true
      await running
      return answers
    },
  }
}

export interface Balancer {
  /** The servers that take calls. */
  ready(): readonly Running[]
  /** Resolves when this server takes calls, or takes none any more. */
  sees(server: Running, state: 'ready' | 'not ready'): Promise<void>
  stop(): Promise<void>
}

/**
 * Follows /ready as endpoints in Kubernetes do. One look at a time, so that no late answer brings a server back; a
 * server that says it is not ready gets no new calls from then on, and those under way go on.
 */
export function startBalancer(servers: () => readonly Running[]): Balancer {
  let ready: readonly Running[] = [...servers()]
  let isOver = false
  const look = async () => {
    const answers = await Promise.all(
      servers().map(async (server) => {
        const answer = await fetch(`${server.url}/ready`).catch(() => undefined)
        await answer?.text()
        return answer?.status === 200 ? [server] : []
      }),
    )
    ready = answers.flat()
  }
  const following = (async () => {
    while (!isOver) {
      await look()
      await sleep(LOOK_MS)
    }
  })()
  return {
    ready: () => ready,
    sees: (server, state) => eventually(() => expect(ready.includes(server)).toBe(state === 'ready')),
    async stop() {
      isOver = true
      await following
    },
  }
}
