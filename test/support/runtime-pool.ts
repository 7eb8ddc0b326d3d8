/** The replicas of one target as processes, which a test kills, starts again and disturbs one by one. */
import type { SimulatedFaults } from '../../src/runtimes/simulated/faults.ts'
import type { SimulatedStats } from '../../src/runtimes/simulated/server.ts'
import { freePorts } from './ports.ts'
import { type Running, startSimulatedRuntime } from './process.ts'

export interface PoolReplica {
  readonly url: string
  /** What it did since it was started last. */
  stats(): Promise<SimulatedStats>
  /** What goes wrong from now on; `{}` ends it. Faults end with the process too. */
  setFaults(faults: SimulatedFaults): Promise<void>
  /** kill -9; resolves when the process is gone. */
  kill(): Promise<void>
  /** Starts it again, at the same address. */
  restart(): Promise<void>
}

export interface RuntimePool {
  readonly replicas: readonly PoolReplica[]
  stop(): Promise<void>
}

/** Starts `count` simulated runtimes. They limit nothing themselves, so `stats().peak` tells what they were given. */
export async function startRuntimePool(options: {
  readonly count: number
  readonly msPerStep: number
  /** False: nobody listens until `restart`. */
  readonly started?: boolean
}): Promise<RuntimePool> {
  const { count, msPerStep, started = true } = options
  const ports = await freePorts(count)
  const replicas = await Promise.all(ports.map((port) => replicaAt(port, { msPerStep, started })))
  return {
    replicas,
    stop: async () => void (await Promise.all(replicas.map((replica) => replica.kill()))),
  }
}

async function replicaAt(
  port: number,
  { msPerStep, started }: { msPerStep: number; started: boolean },
): Promise<PoolReplica> {
  const url = `http://127.0.0.1:${port}`
  let running: Running | undefined
  const restart = async () => {
    const env = { PORT: String(port), FAULTS_BY_REQUEST: 'true' }
    running = await startSimulatedRuntime({ msPerStep }, env)
  }
  if (started) await restart()
  return {
    url,
    restart,
    async stats() {
      return (await (await fetch(`${url}/stats`)).json()) as SimulatedStats
    },
    async setFaults(faults) {
      const { status } = await fetch(`${url}/faults`, { method: 'PUT', body: JSON.stringify(faults) })
      if (status !== 200) throw new Error(`${url}/faults answered ${status}.`)
    },
    async kill() {
      if (!running) return
      const { child } = running
      running = undefined
      if (child.exitCode !== null || child.signalCode !== null) return
      const gone = new Promise((resolve) => child.once('close', resolve))
      child.kill('SIGKILL')
      await gone
    },
  }
}
