/** The one server that all topics of the suite speak to, and the runtimes behind it. */
import { afterAll, beforeAll, expect } from 'vitest'
import { eventually } from '../../support/eventually.ts'
import { type Engine, type Running, startServer, startSimulatedRuntime } from '../../support/process.ts'
import { statsOf } from '../../support/requests.ts'

/** Longer than the wait budget: else a busy machine gets a handle where the picture is what is tested. */
export const PATIENT = { prefer: 'wait=60' }

const PATIENT_ENV = { WAIT_BUDGET_MS: '600000' }

/** What the topics of the suite work with. */
export type Suite = ReturnType<typeof createSuite>

/** Starts the server before all tests, and stops it after them. Call it within a `describe`. */
export function createSuite(engine: Engine) {
  let quickRuntime: Running
  let slowRuntime: Running
  let server: Running
  let patient: Running
  let env: Record<string, string>

  beforeAll(async () => {
    quickRuntime = await startSimulatedRuntime({ msPerStep: 2 })
    slowRuntime = await startSimulatedRuntime({ msPerStep: 100 })
    env = {
      LOG_LEVEL: 'info',
      WAIT_BUDGET_MS: '1500',
      // These tests send thousands of requests as one caller.
      RATE_LIMIT_PER_MINUTE: '1000000',
      RUNTIMES: JSON.stringify([
        { name: 'quick', kind: 'kserve', url: quickRuntime.url, concurrency: 4, queue: 100 },
        { name: 'slow', kind: 'kserve', url: slowRuntime.url, concurrency: 1, queue: 2, queuePerCaller: 2 },
        { name: 'drawn', kind: 'simulated', defaults: { width: 128, height: 64 } },
        { name: 'failing', kind: 'simulated', options: { msPerStep: 50, failEvery: 1 } },
        { name: 'absent', kind: 'kserve', url: 'http://127.0.0.1:9' },
      ]),
    }
    server = await startServer(engine, env)
    patient = await startServer(engine, { ...env, ...PATIENT_ENV })
  })
  afterAll(async () => {
    await Promise.all([server?.stop(), patient?.stop()])
    await Promise.all([quickRuntime?.stop(), slowRuntime?.stop()])
  })

  const slowStats = () => statsOf(slowRuntime)

  return {
    engine,
    get server() {
      return server
    },
    get env() {
      return env
    },
    /** A server and its environment with a wait budget that no test uses up: for calls that are given up while they wait. */
    get patient() {
      return { url: patient.url, env: { ...env, ...PATIENT_ENV } }
    },
    slowStats,
    slowIsIdle: () => eventually(async () => expect((await slowStats()).running).toBe(0)),
    post: (path: string, body: unknown, headers: Record<string, string> = {}) =>
      fetch(server.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      }),
  }
}
