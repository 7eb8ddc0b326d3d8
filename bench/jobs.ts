/**
 * `npm run bench:jobs`: what a job costs on Valkey beside one in memory: time, CPU of the server and of Valkey, commands.
 * The runtime answers at once, so everything that is left is the job's own. Then three servers share jobs that last,
 * at up to 1000 slots. `-- --quick` takes fewer rounds, and of the latter only the smallest case.
 */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { exitUnprepared, Missing } from '../scripts/missing.ts'
import { fixedSecret } from '../src/auth/secret.ts'
import { createMemoryImages } from '../src/images/memory.ts'
import type { Jobs, JobsOptions } from '../src/jobs/job.ts'
import { createMemoryJobs } from '../src/jobs/memory/jobs.ts'
import { createValkeyJobs } from '../src/jobs/valkey/jobs.ts'
import { createPlainPool } from '../src/runtimes/pool/pool.ts'
import type { Runtime } from '../src/runtimes/runtime.ts'
import { createSimulatedRuntime } from '../src/runtimes/simulated/simulated.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'
import { findValkeyServer, startValkey } from '../test/support/valkey.ts'
import { CASES, runCase } from './jobs/three-servers.ts'
import { cpuSeconds, median } from './measure.ts'

const QUICK = process.argv.includes('--quick')
const ROUNDS = QUICK ? 3 : 7
const JOBS = QUICK ? 200 : 500
const AT_ONCE = 8
/** How much more a job may cost Valkey than in the case of 8 slots. */
const GOAL = 2.6
const CALLER = { id: 'bench' }

if (findValkeyServer() === undefined)
  exitUnprepared('jobs on Valkey', new Missing('Put valkey-server or redis-server on the PATH.'))
const valkey = await startValkey()
const fsyncAlways = await startValkey({ appendfsync: 'always' })

const painter = createSimulatedRuntime({ msPerStep: 0, imageBytes: 0, queue: 0 })
const picture = await painter.generate(
  { prompt: 'a fox', width: 64, height: 64, num_inference_steps: 1, seed: 1 },
  { signal: new AbortController().signal },
)
const runtime: Runtime = { ...painter, generate: async ({ seed }) => ({ ...picture, seed }) }
const options = (): JobsOptions => ({
  targets: [
    {
      ...{
        name: 'bench',
        kind: 'simulated',
        concurrency: AT_ONCE,
        queue: 1000,
        queuePerCaller: 1000,
        pool: createPlainPool(runtime, { slots: AT_ONCE }),
      },
      defaults: { width: 64, height: 64, num_inference_steps: 1 },
    },
  ],
  images: createMemoryImages({ maxBytes: 2 ** 28 }),
  deadlineMs: 60_000,
  orphanGraceMs: 1000,
  ttlSeconds: 60,
  log: pino({ level: 'silent' }),
  metrics: createMetrics(),
})
const onValkey = (url: string) =>
  createValkeyJobs({ ...options(), url: fixedSecret(url), lockMs: 6000, maxReruns: 3, prefix: randomUUID() })

/** One job as a tool call makes it: asked for, waited for, left. */
async function job(jobs: Jobs): Promise<number> {
  const started = performance.now()
  const waiter = await jobs.submit({ prompt: 'a fox' }, CALLER)
  for await (const _ of waiter.watch());
  await waiter.leave()
  return performance.now() - started
}

const variants = [
  { name: 'memory', jobs: createMemoryJobs(options()), server: undefined },
  { name: 'Valkey, fsync everysec', jobs: await onValkey(valkey.url), server: valkey },
  { name: 'Valkey, fsync always', jobs: await onValkey(fsyncAlways.url), server: fsyncAlways },
].map((variant) => ({
  ...variant,
  ms: [] as number[],
  cpu: [] as number[],
  serverCpu: [] as number[],
  commands: [] as number[],
}))

for (let round = -1; round < ROUNDS; round += 1)
  for (const { jobs, server, ms, cpu, serverCpu, commands } of variants) {
    const calls = async () => (server ? await server.commandCalls() : {})
    const [cpuBefore, serverBefore, callsBefore] = [
      process.cpuUsage(),
      server && cpuSeconds(server.pid()),
      await calls(),
    ]
    const times: number[] = []
    let left = JOBS
    const worker = async () => {
      while (left-- > 0) times.push(await job(jobs))
    }
    await Promise.all(Array.from({ length: AT_ONCE }, worker))
    const { user, system } = process.cpuUsage(cpuBefore)
    const callsAfter = await calls()
    if (round < 0) continue
    ms.push(median(times))
    cpu.push((user + system) / 1000 / JOBS)
    if (!server) continue
    serverCpu.push(((cpuSeconds(server.pid()) - (serverBefore ?? 0)) * 1000) / JOBS)
    // What a script does inside of the server is not a command that was sent.
    const sent = ['evalsha', 'fcall'] as const
    commands.push(
      sent.reduce((sum, name) => sum + ((callsAfter[name] ?? 0) - (callsBefore[name] ?? 0)), 0) / JOBS,
    )
  }

console.log(`${JOBS} jobs a round, ${AT_ONCE} at once, ${ROUNDS} rounds, a runtime that answers at once.\n`)
console.log(
  '| jobs in | p50 of a job | server CPU per job | / memory | Valkey CPU per job | scripts per job |',
)
console.log('|---|---|---|---|---|---|')
const floor = median(variants[0]!.cpu)
for (const { name, ms, cpu, serverCpu, commands } of variants)
  console.log(
    `| ${name} | ${median(ms).toFixed(2)} ms | ${median(cpu).toFixed(2)} ms | ${(median(cpu) / floor).toFixed(1)} | ` +
      `${serverCpu.length === 0 ? '-' : `${median(serverCpu).toFixed(2)} ms`} | ${commands.length === 0 ? '-' : median(commands).toFixed(1)} |`,
  )

for (const { jobs } of variants) await jobs.close()
await Promise.all([valkey.stop(), fsyncAlways.stop()])

console.log(`\nThree servers on one Valkey, jobs that last, ${QUICK ? 'the smallest case' : 'all cases'}.\n`)
console.log(
  `| slots | service | waiting | steps | jobs/s | Valkey CPU per job | ratio (<= ${GOAL}) | of a core | scripts per job | PUBLISH per job | worst PING | refused | slots that ran |`,
)
console.log(`|${'---|'.repeat(13)}`)
let usual: number | undefined
for (const asked of QUICK ? CASES.slice(0, 1) : CASES) {
  const cost = await runCase(asked, { seconds: QUICK ? 2 : 15 })
  usual ??= cost.cpuPerJob
  const { concurrency, serviceMs, waiting, steps } = asked
  console.log(
    `| ${concurrency} | ${serviceMs / 1000} s | ${waiting} | ${steps ? 'yes' : 'no'} | ${cost.perSecond.toFixed(0)} | ` +
      `${cost.cpuPerJob.toFixed(2)} ms | ${(cost.cpuPerJob / usual).toFixed(1)} | ${(cost.core * 100).toFixed(0)} % | ` +
      `${cost.scriptsPerJob.toFixed(1)} | ${cost.publishPerJob.toFixed(1)} | ${cost.worstPingMs.toFixed(0)} ms | ` +
      `${cost.refused} | ${cost.slots.toFixed(0)} |`,
  )
}
