/**
 * `npm run bench:overload`: open arrivals far beyond capacity against the server with the simulated target over REST.
 * Without admission control goodput collapses; here it should stay at capacity, every admitted picture should be
 * delivered in bounded time, and every refusal should come at once. `-- --quick` takes shorter phases.
 */
import { request } from 'undici'
import { startServer } from '../test/support/process.ts'
import { median, percentile } from './measure.ts'

const QUICK = process.argv.includes('--quick')
const SERVICE_MS = 500
const PHASE_S = QUICK ? 8 : 30
/** Goodput is counted after the queue had time to fill. */
const WARM_UP_S = 3

interface Level {
  readonly times: number
  readonly concurrency: number
  readonly queue: number
}
const LEVELS: readonly Level[] = [
  { times: 0.5, concurrency: 4, queue: 8 },
  { times: 2, concurrency: 4, queue: 8 },
  { times: 10, concurrency: 4, queue: 8 },
  // Capacity 2/s, so that the load generator fits beside the server on a small machine.
  { times: 100, concurrency: 1, queue: 2 },
]

interface Answer {
  readonly status: number
  /** Milliseconds since the phase began, and since the request was due. */
  readonly endedAt: number
  readonly latency: number
}

console.log(`Service time ${SERVICE_MS} ms, REST, memory backend, ${PHASE_S} s a level, Poisson arrivals.\n`)
console.log(
  '| load | goodput / capacity (>= 0.98) | admitted p99 / bound (<= 1.2) | refused p50, p99 (3, 50 ms) | admitted = delivered |',
)
console.log('|---|---|---|---|---|')
for (const level of LEVELS) await measure(level)

async function measure({ times, concurrency, queue }: Level): Promise<void> {
  const server = await startServer('node', {
    RATE_LIMIT_PER_MINUTE: '0',
    RUNTIMES: JSON.stringify([
      {
        name: 'simulated',
        kind: 'simulated',
        concurrency,
        queue,
        defaults: { width: 64, height: 64, num_inference_steps: 1 },
        options: { msPerStep: SERVICE_MS },
      },
    ]),
  })
  try {
    const capacity = (concurrency * 1000) / SERVICE_MS
    const answers = await arrive({ url: server.url, perSecond: capacity * times, seconds: PHASE_S })
    const { targets } = (await (await request(`${server.url}/api/queue`)).body.json()) as {
      targets: { admitted: number; ended: { succeeded: number }; service_ms: { p50: number } }[]
    }
    const [target] = targets
    if (!target) throw new Error('the server has no target')
    // What the slots can do with the service times that this machine really had.
    const measuredCapacity = (concurrency * 1000) / target.service_ms.p50
    const delivered = answers.filter(({ status }) => status === 200)
    const refused = answers.filter(({ status }) => status === 503).map(({ latency }) => latency)
    const others = answers.length - delivered.length - refused.length
    const counted = delivered.filter(({ endedAt }) => endedAt > WARM_UP_S * 1000 && endedAt <= PHASE_S * 1000)
    const goodput = counted.length / (PHASE_S - WARM_UP_S)
    const bound = ((queue + concurrency) / concurrency) * target.service_ms.p50
    const goodputRatio = goodput / Math.min(measuredCapacity, capacity * times)
    console.log(
      `| ${times}x of ${capacity}/s | ${goodputRatio.toFixed(3)} (${goodput.toFixed(2)}/s) | ${(
        percentile(
          delivered.map(({ latency }) => latency),
          0.99,
        ) / bound
      ).toFixed(2)} | ` +
        `${refused.length === 0 ? 'none' : `${median(refused).toFixed(1)}, ${percentile(refused, 0.99).toFixed(1)} ms of ${refused.length}`} | ` +
        `${target.admitted} = ${target.ended.succeeded} = ${delivered.length}${others > 0 ? `, ${others} OTHER` : ''} |`,
    )
  } finally {
    await server.stop()
  }
}

/** Sends requests at random times with the given mean rate, whatever became of earlier ones; waits for all answers. */
async function arrive({
  url,
  perSecond,
  seconds,
}: {
  url: string
  perSecond: number
  seconds: number
}): Promise<Answer[]> {
  const started = performance.now()
  const since = () => performance.now() - started
  const pending: Promise<Answer>[] = []
  let due = 0
  for (let index = 0; ; index += 1) {
    due += (-Math.log(1 - Math.random()) / perSecond) * 1000
    if (due > seconds * 1000) break
    if (due > since()) await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - since())))
    pending.push(ask({ url, index, due: since(), since }))
  }
  return await Promise.all(pending)
}

async function ask(options: {
  url: string
  index: number
  due: number
  since: () => number
}): Promise<Answer> {
  const { url, index, due, since } = options
  const answer = await request(`${url}/api/images`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: `picture ${index}` }),
  })
  await answer.body.text()
  return { status: answer.statusCode, endedAt: since(), latency: since() - due }
}
