/** Side-by-side measuring: variants take turns in every round, so that a noisy machine disturbs all of them alike. */
import { readFileSync } from 'node:fs'
import { request } from 'undici'

/** Clock ticks per second of /proc (USER_HZ is 100 on every Linux that Node runs on). */
const TICKS_PER_SECOND = 100

/** CPU seconds, user and system, that a process has used so far. Linux only. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // Fields after the command's closing bracket: utime and stime are the 12th and 13th of them.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** The most resident memory, in bytes, that a process has had so far. Linux only. */
export function peakRss(pid: number): number {
  const [, kib] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return Number(kib) * 1024
}

export interface Variant {
  readonly name: string
  readonly pid: number
  /** One call; throws when the answer is not what it should be. */
  call(): Promise<void>
}

export interface Measured {
  readonly name: string
  /** CPU milliseconds per call, one figure per round. */
  readonly cpuMs: readonly number[]
  /** Median latency in milliseconds, one figure per round. */
  readonly p50Ms: readonly number[]
  /** The slowest hundredth, in milliseconds, one figure per round. */
  readonly p99Ms: readonly number[]
  /** Calls per second, one figure per round. */
  readonly perSecond: readonly number[]
}

/**
 * Measures variants interleaved: `rounds` times `calls` calls each, `concurrency` at once, after one warm-up round
 * that is thrown away.
 */
export async function sideBySide(options: {
  readonly variants: readonly Variant[]
  readonly rounds: number
  readonly calls: number
  readonly concurrency: number
}): Promise<readonly Measured[]> {
  const { variants, rounds, calls, concurrency } = options
  const measured = variants.map(({ name }) => ({
    name,
    cpuMs: [] as number[],
    p50Ms: [] as number[],
    p99Ms: [] as number[],
    perSecond: [] as number[],
  }))
  for (let round = -1; round < rounds; round += 1)
    for (const [index, variant] of variants.entries()) {
      const before = cpuSeconds(variant.pid)
      const started = performance.now()
      const latencies = await drive({ call: variant.call, calls, concurrency })
      const wallMs = performance.now() - started
      const cpuMs = ((cpuSeconds(variant.pid) - before) * 1000) / calls
      if (round < 0) continue
      measured[index]?.cpuMs.push(cpuMs)
      measured[index]?.p50Ms.push(median(latencies))
      measured[index]?.p99Ms.push(percentile(latencies, 0.99))
      measured[index]?.perSecond.push((calls * 1000) / wallMs)
    }
  return measured
}

/** Calls `concurrency` at once until `calls` are done; returns the latencies in milliseconds. */
export async function drive(options: {
  call: () => Promise<void>
  calls: number
  concurrency: number
}): Promise<number[]> {
  const latencies: number[] = []
  let left = options.calls
  const worker = async () => {
    while (left > 0) {
      left -= 1
      const started = performance.now()
      await options.call()
      latencies.push(performance.now() - started)
    }
  }
  await Promise.all(Array.from({ length: options.concurrency }, worker))
  return latencies
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

/** The value below which this share of all values is; NaN where there are none. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN
}

/** POSTs JSON and reads the answer to its end; returns its size. @throws Error for another status than 200. */
export async function post(url: string, body: string, headers: Record<string, string> = {}): Promise<number> {
  const answer = await request(url, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  })
  let size = 0
  for await (const chunk of answer.body) size += chunk.length
  if (answer.statusCode !== 200) throw new Error(`${url} answered ${answer.statusCode}`)
  return size
}
