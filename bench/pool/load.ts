/** Poisson arrivals at more than the replicas can take, and what became of them. */
import { request } from 'undici'
import { median, percentile } from '../measure.ts'
import type { Way } from './ways.ts'

export interface Phase {
  /** What the slots can make, in pictures per second. */
  readonly capacity: number
  /** Arrivals, as a multiple of the capacity. */
  readonly times: number
  readonly seconds: number
  /** Seconds that the queue has to fill before anything counts. */
  readonly warmUpSeconds: number
}

export interface Outcome {
  /** Pictures that callers got, as a share of what the slots can make. */
  readonly goodput: number
  /** Pictures of the replica that made the most and of the one that made the fewest. */
  readonly most: number
  readonly least: number
  readonly deliveredP50Ms: number
  readonly deliveredP99Ms: number
  readonly refused: number
  /** Answers that are neither a picture nor a refusal. */
  readonly failed: number
}

interface Answer {
  readonly status: number
  readonly endedAt: number
  readonly ms: number
}

/** Sends a phase of load to a way of reaching the replicas, and waits for all answers. */
export async function underLoad(way: Way, phase: Phase): Promise<Outcome> {
  const { capacity, times, seconds, warmUpSeconds } = phase
  const started = performance.now()
  const since = () => performance.now() - started
  const pending: Promise<Answer>[] = []
  const madeAt = async (second: number) => {
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, second * 1000 - since())))
    return await way.made()
  }
  const made = Promise.all([madeAt(warmUpSeconds), madeAt(seconds)])
  for (let due = 0; ; ) {
    due += (-Math.log(1 - Math.random()) / (capacity * times)) * 1000
    if (due > seconds * 1000) break
    const early = due - since()
    if (early > 0) await new Promise((resolve) => setTimeout(resolve, early))
    pending.push(ask(way, { index: pending.length, since }))
  }
  const answers = await Promise.all(pending)
  const [before, after] = await made
  const perReplica = after.map((count, index) => count - (before[index] ?? 0))
  const delivered = answers.filter(({ status }) => status === 200)
  const counted = delivered.filter(
    ({ endedAt }) => endedAt > warmUpSeconds * 1000 && endedAt <= seconds * 1000,
  )
  const times200 = delivered.map(({ ms }) => ms)
  const refused = answers.filter(({ status }) => status === 503).length
  return {
    goodput: counted.length / (seconds - warmUpSeconds) / capacity,
    most: Math.max(...perReplica),
    least: Math.min(...perReplica),
    deliveredP50Ms: median(times200),
    deliveredP99Ms: percentile(times200, 0.99),
    refused,
    failed: answers.length - delivered.length - refused,
  }
}

async function ask(way: Way, { index, since }: { index: number; since: () => number }): Promise<Answer> {
  const began = since()
  const answer = await request(way.url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: `picture ${index}` }),
  })
  const text = await answer.body.text()
  if (answer.statusCode === 200) way.onAnswer?.(text)
  return { status: answer.statusCode, endedAt: since(), ms: since() - began }
}
