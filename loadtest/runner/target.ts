/** The target under load, as the server's own /api/queue tells it. */
import { Advice } from '../../scripts/deploy/kube.ts'

export interface Target {
  readonly name: string
  readonly concurrency: number
  readonly queue: number
  /** Replicas of the runtime that take work; absent where the server knows one address only. */
  readonly replicas?: number
  /** Of a picture with the target's defaults, in milliseconds; absent until the server knows. */
  readonly estimateMs?: number
}

/** States of a replica whose slots count in the target's concurrency, now or in a moment. */
const WORKING = ['ready', 'busy']
/** How long the server may take to answer, in milliseconds. */
const PATIENCE_MS = 10_000

/**
 * Asks the server for its targets; the named one, or the first.
 * @throws Advice that says what to do when it is not reachable, wants a token, or has no such target.
 */
export async function readTarget(options: {
  readonly url: string
  readonly token?: string | undefined
  readonly model?: string | undefined
}): Promise<Target> {
  const { url, token, model } = options
  const response = await fetch(`${url}/api/queue`, {
    headers: token ? { authorization: `Bearer ${token}` } : {},
    signal: AbortSignal.timeout(PATIENCE_MS),
  }).catch((error: Error) => {
    throw new Advice(
      `${url} does not answer (${String(error.cause ?? error.message)}).`,
      'in a cluster: kubectl -n mcp-server-dev port-forward service/mcp-server 8080, and --url http://127.0.0.1:8080',
    )
  })
  if (response.status === 401)
    throw new Advice(`${url} wants a token: set TOKEN, or TOKEN_FILE to a file that holds it.`)
  if (response.status === 403) throw new Advice('The token needs the scopes image:generate and image:read.')
  if (response.status !== 200)
    throw new Advice(`${url}/api/queue answered ${response.status}: is this a diffusers-mcp server?`)
  const { targets } = (await response.json()) as {
    targets: {
      target: string
      concurrency: number
      queue_limit: number
      estimate_ms?: number
      replicas?: { state: string }[]
    }[]
  }
  const found = model === undefined ? targets[0] : targets.find(({ target }) => target === model)
  if (!found)
    throw new Advice(`MODEL=${model}: the server has ${targets.map(({ target }) => target).join(', ')}.`)
  const working = found.replicas?.filter(({ state }) => WORKING.includes(state)).length
  return {
    ...(working ? { replicas: working } : {}),
    ...{ name: found.target, concurrency: found.concurrency, queue: found.queue_limit },
    ...(found.estimate_ms === undefined ? {} : { estimateMs: found.estimate_ms }),
  }
}
