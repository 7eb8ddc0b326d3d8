/** Three server processes on one Valkey, with jobs that last: what a job costs Valkey by slots, waiters and steps. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startValkey, type ValkeyServer } from '../../test/support/valkey.ts'
import { cpuSeconds } from '../measure.ts'
import type { ServerCounts, ServerTask } from './server.ts'

const SERVERS = 3
const SERVER = fileURLToPath(new URL('./server.ts', import.meta.url))
/** Pause between two looks at how long Valkey takes to answer, in milliseconds. */
const PING_EVERY_MS = 20

export interface Case {
  readonly concurrency: number
  readonly serviceMs: number
  /** Calls beyond the slots. */
  readonly waiting: number
  readonly steps: boolean
}

/** All slots offer about 100 jobs a second, so that the costs of a job compare. The first case is the measure. */
export const CASES: readonly Case[] = [
  { concurrency: 8, serviceMs: 80, waiting: 0, steps: false },
  { concurrency: 256, serviceMs: 2500, waiting: 0, steps: false },
  { concurrency: 256, serviceMs: 2500, waiting: 0, steps: true },
  { concurrency: 256, serviceMs: 2500, waiting: 300, steps: false },
  { concurrency: 1000, serviceMs: 10_000, waiting: 0, steps: false },
  { concurrency: 1000, serviceMs: 10_000, waiting: 300, steps: false },
  { concurrency: 1000, serviceMs: 10_000, waiting: 300, steps: true },
  { concurrency: 1000, serviceMs: 10_000, waiting: 3000, steps: true },
]

export interface Cost {
  readonly perSecond: number
  /** Of Valkey, in milliseconds. */
  readonly cpuPerJob: number
  /** Share of one core that Valkey used. */
  readonly core: number
  readonly scriptsPerJob: number
  readonly publishPerJob: number
  /** The longest that Valkey took to answer, in milliseconds. */
  readonly worstPingMs: number
  readonly refused: number
  /** Mean number of slots in which a runtime worked. */
  readonly slots: number
}

/** Runs one case for `seconds`, after all slots are filled and their ends have spread. */
export async function runCase(asked: Case, { seconds }: { seconds: number }): Promise<Cost> {
  const { concurrency, serviceMs, waiting, steps } = asked
  const valkey = await startValkey()
  const servers = Array.from({ length: SERVERS }, (_, index) =>
    startServer({
      ...{ url: valkey.url, concurrency, serviceMs, steps },
      calls: share(concurrency + waiting, index),
    }),
  )
  try {
    await Promise.all(servers.map(countsOf))
    await sleep(Math.max(1000, serviceMs * 2))
    const before = await look(valkey, servers)
    const pings = await worstPing(valkey, seconds * 1000)
    const after = await look(valkey, servers)
    const of = (name: keyof typeof before) => after[name] - before[name]
    const done = Math.max(1, of('done'))
    return {
      perSecond: of('done') / (of('at') / 1000),
      cpuPerJob: (of('cpu') * 1000) / done,
      core: (of('cpu') * 1000) / of('at'),
      scriptsPerJob: of('scripts') / done,
      publishPerJob: of('published') / done,
      worstPingMs: pings,
      refused: of('refused'),
      slots: of('slotMs') / of('at'),
    }
  } finally {
    for (const server of servers) server.kill('SIGKILL')
    await valkey.stop()
  }
}

/** What server `index` gets of all calls. */
function share(calls: number, index: number): number {
  return Math.floor((calls * (index + 1)) / SERVERS) - Math.floor((calls * index) / SERVERS)
}

function startServer(task: ServerTask): ChildProcess {
  const server = fork(SERVER, [JSON.stringify(task)], { execArgv: [] })
  server.once('exit', (code) => {
    if (code !== null) throw new Error(`a server ended with ${code}`)
  })
  return server
}

async function countsOf(server: ChildProcess): Promise<ServerCounts> {
  server.send('count')
  const [counts] = await once(server, 'message')
  return counts
}

/** All counts at one time. */
async function look(valkey: ValkeyServer, servers: readonly ChildProcess[]) {
  const [calls, ...counts] = await Promise.all([valkey.commandCalls(), ...servers.map(countsOf)])
  const sum = (name: keyof ServerCounts) => counts.reduce((total, count) => total + count[name], 0)
  return {
    at: performance.now(),
    cpu: cpuSeconds(valkey.pid()),
    scripts: (calls.evalsha ?? 0) + (calls.fcall ?? 0),
    published: calls.publish ?? 0,
    ...{ done: sum('done'), refused: sum('refused'), slotMs: sum('slotMs') },
  }
}

function worstPing(valkey: ValkeyServer, ms: number): Promise<number> {
  return valkey.ask(async (client) => {
    let worst = 0
    for (const until = performance.now() + ms; performance.now() < until; await sleep(PING_EVERY_MS)) {
      const asked = performance.now()
      await client.ping()
      worst = Math.max(worst, performance.now() - asked)
    }
    return worst
  })
}
