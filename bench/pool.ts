/**
 * `npm run bench:pool`: many replicas with one slot each, asked for twice what they can make. How much of it reaches the
 * callers, and do all replicas make alike? This server with the replicas' addresses, beside the same server with a
 * balancer of connections before them, and beside Ray Serve with a router of its own. `-- --write` keeps figures and plot
 * for docs/benchmarks.md. `-- --quick` measures four replicas without Ray Serve, and fails where the pool is grossly off.
 */
import { writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { Missing, saySkipped } from '../scripts/missing.ts'
import { ROOT } from '../test/support/process.ts'
import { type Figure, table } from './pool/figures.ts'
import { underLoad } from './pool/load.ts'
import { plot } from './pool/plot.ts'
import { type Size, type Way, withBalancer, withPool, withRayServe } from './pool/ways.ts'

const QUICK = process.argv.includes('--quick')
const TIMES = 2
const SECONDS = QUICK ? 14 : 30
/** What counts after it lasts for a whole number of pictures: many replicas end theirs at the same time. */
const WARM_UP_SECONDS = QUICK ? 3 : 6
/** Shorter pictures would measure the time between two of them. */
const LEAST_SERVICE_MS = 500
/** The most pictures per second of all replicas: what two cores answer beside a load generator, twice over. */
const MOST_PER_SECOND = 40
/** Goodput of the pool below which `--quick` fails, whatever else the machine does. */
const GROSSLY_OFF = 0.85

const WAYS: readonly { name: string; open: (size: Size) => Promise<Way>; mostReplicas: number }[] = [
  { name: 'pool', open: withPool, mostReplicas: 64 },
  { name: 'balancer', open: withBalancer, mostReplicas: 64 },
  // Each replica is a Python process of 150 MB, and takes seconds of CPU to start.
  ...(QUICK ? [] : [{ name: 'Ray Serve', open: withRayServe, mostReplicas: 16 }]),
]

const figures: Figure[] = []
for (const replicas of QUICK ? [4] : [1, 4, 16, 64]) {
  const serviceMs = Math.max(
    QUICK ? LEAST_SERVICE_MS / 2 : LEAST_SERVICE_MS,
    (replicas * 1000) / MOST_PER_SECOND,
  )
  const capacity = (replicas * 1000) / serviceMs
  for (const { name, open, mostReplicas } of WAYS) {
    if (replicas > mostReplicas) continue
    const way = await open({ replicas, serviceMs, queue: 2 * replicas }).catch((error) => {
      if (!(error instanceof Missing)) throw error
      saySkipped(name, error.message)
    })
    if (!way) continue
    try {
      const phase = { capacity, times: TIMES, seconds: SECONDS, warmUpSeconds: WARM_UP_SECONDS }
      figures.push({ name, replicas, serviceMs, ...(await underLoad(way, phase)) })
      process.stderr.write(`${name}, ${replicas} replicas: done\n`)
    } finally {
      await way.stop()
    }
  }
}

const about = {
  date: new Date().toISOString().slice(0, 10),
  machine: `${availableParallelism()} cores, Node ${process.version}`,
}
console.log(
  `Poisson arrivals at ${TIMES}x of what the replicas can make, ${SECONDS} s each. ${about.machine}.\n`,
)
console.log(table(figures))
if (process.argv.includes('--write')) {
  writeFileSync(`${ROOT}docs/benchmarks-pool.json`, `${JSON.stringify({ ...about, figures }, null, 2)}\n`)
  writeFileSync(`${ROOT}docs/benchmarks-pool.svg`, plot({ ...about, figures }))
}
const worst = Math.min(...figures.filter(({ name }) => name === 'pool').map(({ goodput }) => goodput))
if (QUICK && worst < GROSSLY_OFF) {
  console.log(
    `\nThe pool delivered only ${worst.toFixed(2)} of its capacity: at least ${GROSSLY_OFF} is expected.`,
  )
  process.exitCode = 1
}
