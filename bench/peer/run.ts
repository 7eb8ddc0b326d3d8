/**
 * `npm run bench:peer`: this server beside one of the same purpose on FastMCP (Python), in front of the same runtimes,
 * taking turns. Prints tables; `-- --write` keeps the figures and the plot for docs/benchmarks.md, `-- --quick` takes
 * fewer and shorter rounds.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { request } from 'undici'
import { lockedEnvironment } from '../../scripts/python-env.ts'
import { ROOT, type Running, start, startServer, startSimulatedRuntime } from '../../test/support/process.ts'
import { median, peakRss, percentile, post, sideBySide } from '../measure.ts'
import { baseline, pidOf, toolCall } from '../pictures.ts'
import type { Comparison, Cost, Overload } from './comparison.ts'
import { plot } from './plot.ts'

const QUICK = process.argv.includes('--quick')
const ROUNDS = QUICK ? 2 : 9
const CALLS = QUICK ? 30 : 200
/** Both servers send a picture of this size within the answer of the tool. */
const PICTURE_BYTES = 500_000
const AT_ONCE = 4

const SERVICE_MS = 250
const CONCURRENCY = 2
const CAPACITY = (CONCURRENCY * 1000) / SERVICE_MS
const TIMES = 2
const PHASE_S = QUICK ? 5 : 30
/** Goodput is counted after the queues had time to fill. */
const WARM_UP_S = QUICK ? 1 : 5
/** Whoever has no picture after this time leaves. */
const PATIENCE_MS = 4000

const python = lockedEnvironment({ name: 'peer', locks: [`${ROOT}bench/peer/requirements.lock`] })
const startPeer = (runtime: Running) =>
  start({ command: python, args: ['bench/peer/server.py'], env: { RUNTIME_URL: runtime.url } })
const startOurs = (runtime: Running, { concurrency, queue }: { concurrency: number; queue: number }) =>
  startServer('node', {
    LOG_LEVEL: 'info',
    RATE_LIMIT_PER_MINUTE: '0',
    // The peer keeps no pictures: a small store, so that memory is that of the relay.
    IMAGES_MAX_BYTES: String(2 ** 25),
    RUNTIMES: JSON.stringify([
      { name: 'runtime', kind: 'kserve', url: runtime.url, model: 'model', concurrency, queue },
    ]),
  })

/** A picture that both send in the tool's answer; the other way, as raw PNG, only this server has. */
async function costs(): Promise<Cost[]> {
  const runtime = await baseline('fixed-runtime', { BYTES: String(PICTURE_BYTES) })
  const [peer, ours, raw] = await Promise.all([
    startPeer(runtime),
    startOurs(runtime, { concurrency: 8, queue: 8 }),
    startOurs(runtime, { concurrency: 8, queue: 8 }),
  ])
  const { body, headers } = toolCall('generate_image', { prompt: 'a' })
  const expect = (size: number, least: number) => {
    if (size < least) throw new Error(`an answer of only ${size} bytes`)
  }
  const overMcp = async ({ url }: Running) =>
    expect(await post(`${url}/mcp`, body, headers), PICTURE_BYTES * 1.3)
  const variants = [
    { name: 'FastMCP, tool', process: peer, call: () => overMcp(peer) },
    { name: 'diffusers-mcp, tool', process: ours, call: () => overMcp(ours) },
    {
      name: 'diffusers-mcp, REST',
      process: raw,
      call: async () =>
        expect(
          await post(`${raw.url}/api/images`, '{"prompt":"a"}', { accept: 'image/png' }),
          PICTURE_BYTES * 0.95,
        ),
    },
  ]
  try {
    const measured = await sideBySide({
      variants: variants.map(({ process: running, ...variant }) => ({ ...variant, pid: pidOf(running) })),
      rounds: ROUNDS,
      calls: CALLS,
      concurrency: AT_ONCE,
    })
    return measured.map(({ name, cpuMs, perSecond, p50Ms, p99Ms }, index) => ({
      name,
      cpuMs: median(cpuMs),
      perSecond: median(perSecond),
      p50Ms: median(p50Ms),
      p99Ms: median(p99Ms),
      peakRssMiB: peakRss(pidOf(variants[index]!.process)) / 2 ** 20,
    }))
  } finally {
    await Promise.all([peer, ours, raw, runtime].map((one) => one.stop()))
  }
}

/** Open arrivals (Poisson) at twice the runtime's capacity, for both servers in turn. */
async function overload(): Promise<Overload[]> {
  const results: Overload[] = []
  for (const { runtime, queue } of [
    { runtime: 'refuses when 8 wait', queue: 8 },
    { runtime: 'queues everything', queue: 100_000 },
  ])
    for (const name of ['FastMCP', 'diffusers-mcp']) {
      const simulated = await startSimulatedRuntime({
        ...{ msPerStep: SERVICE_MS, concurrency: CONCURRENCY, queue },
      })
      const server =
        name === 'FastMCP'
          ? await startPeer(simulated)
          : await startOurs(simulated, { concurrency: CONCURRENCY, queue: 8 })
      try {
        results.push({ name, runtime, ...(await overloaded(server, simulated)) })
      } finally {
        await server.stop()
        await simulated.stop()
      }
    }
  return results
}

async function overloaded(server: Running, simulated: Running): Promise<Omit<Overload, 'name' | 'runtime'>> {
  const started = performance.now()
  const since = () => performance.now() - started
  const pending: ReturnType<typeof ask>[] = []
  for (let due = 0; ; ) {
    due += (-Math.log(1 - Math.random()) / (CAPACITY * TIMES)) * 1000
    if (due > PHASE_S * 1000) break
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - since())))
    pending.push(ask(server, { seed: pending.length, since }))
  }
  const answers = await Promise.all(pending)
  const of = (became: string) => answers.filter((answer) => answer.became === became)
  const delivered = of('delivered')
  const refused = of('refused').map(({ ms }) => ms)
  const counted = delivered.filter(({ endedAt }) => endedAt > WARM_UP_S * 1000 && endedAt <= PHASE_S * 1000)
  const stats = (await (await request(`${simulated.url}/stats`)).body.json()) as { finished: number }
  return {
    goodput: counted.length / (PHASE_S - WARM_UP_S) / CAPACITY,
    deliveredP99Ms: percentile(
      delivered.map(({ ms }) => ms),
      0.99,
    ),
    asked: answers.length,
    delivered: delivered.length,
    refused: refused.length,
    refusedP50Ms: refused.length === 0 ? undefined : median(refused),
    gaveUp: of('gave up').length,
    made: stats.finished,
  }
}

/** One call of the tool, by a client whose patience ends. */
async function ask({ url }: Running, { seed, since }: { seed: number; since: () => number }) {
  const began = since()
  const { body, headers } = toolCall('generate_image', {
    ...{ prompt: `picture ${seed}`, width: 64, height: 64, num_inference_steps: 1 },
  })
  let became: 'delivered' | 'refused' | 'gave up'
  try {
    const answer = await request(`${url}/mcp`, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json', ...headers },
      signal: AbortSignal.timeout(PATIENCE_MS),
    })
    const text = await answer.body.text()
    became = /"isError":\s*true/.test(text) ? 'refused' : 'delivered'
    if (became === 'delivered' && !/"type":\s*"image"/.test(text)) throw new Error(text.slice(0, 500))
  } catch (error) {
    if ((error as Error).name !== 'TimeoutError') throw error
    became = 'gave up'
  }
  return { became, ms: since() - began, endedAt: since() }
}

const fastmcp =
  /^fastmcp==(\S+)/m.exec(readFileSync(`${ROOT}bench/peer/requirements.lock`, 'utf8'))?.[1] ?? ''
const pythonVersion = readFileSync(`${python.replace(/[^/]+\/[^/]+$/, '')}pyvenv.cfg`, 'utf8')
const comparison: Comparison = {
  date: new Date().toISOString().slice(0, 10),
  machine: `${availableParallelism()} shared virtual cores, no GPU`,
  versions: {
    node: process.version,
    python: /version(?:_info)? = (\S+)/.exec(pythonVersion)?.[1] ?? '',
    fastmcp,
  },
  rounds: ROUNDS,
  costs: await costs(),
  overload: await overload(),
}

const ms = (value: number | undefined) => (value === undefined ? '-' : `${value.toFixed(1)} ms`)
console.log(
  `FastMCP ${fastmcp}, Python ${comparison.versions.python}, Node ${process.version}; ${ROUNDS} interleaved rounds of ${CALLS} calls, ${AT_ONCE} at once, a picture of 0.5 MB.\n`,
)
console.log('| server | CPU per picture | pictures/s | p50 | p99 | peak RSS |\n|---|---|---|---|---|---|')
for (const { name, cpuMs, perSecond, p50Ms, p99Ms, peakRssMiB } of comparison.costs)
  console.log(
    `| ${name} | ${ms(cpuMs)} | ${perSecond.toFixed(0)} | ${ms(p50Ms)} | ${ms(p99Ms)} | ${peakRssMiB.toFixed(0)} MiB |`,
  )
console.log(
  `\nOpen arrivals at ${TIMES}x of ${CAPACITY}/s for ${PHASE_S} s, ${SERVICE_MS} ms a picture, clients leave after ${PATIENCE_MS / 1000} s.\n`,
)
console.log(
  '| runtime | server | goodput / capacity | delivered p99 | asked = delivered + refused + gave up | refused p50 | made by the runtime |\n|---|---|---|---|---|---|---|',
)
for (const one of comparison.overload)
  console.log(
    `| ${one.runtime} | ${one.name} | ${one.goodput.toFixed(2)} | ${ms(one.deliveredP99Ms)} | ${one.asked} = ${one.delivered} + ${one.refused} + ${one.gaveUp} | ${ms(one.refusedP50Ms)} | ${one.made} |`,
  )

if (process.argv.includes('--write')) {
  writeFileSync(`${ROOT}docs/benchmarks.json`, `${JSON.stringify(comparison, null, 2)}\n`)
  writeFileSync(`${ROOT}docs/benchmarks.svg`, plot(comparison))
}
