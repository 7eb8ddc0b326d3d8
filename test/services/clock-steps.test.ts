/** The wall clock of a server is set by an hour while all slots run: no estimate, lease, deadline or answer changes. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { commandFor, type Engine, ROOT, type Running, start } from '../support/process.ts'
import { type Answer, call, TOKEN } from '../support/replicas.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

const HOUR_MS = 3_600_000
const PRELOAD = `${ROOT}test/support/shifted-clock.ts`
/** The run of one slot, in milliseconds: longer than a lease, so that each lease has to be renewed after the step. */
const RUN_MS = 8000
const LOCK_MS = 1000
const MS_PER_STEP = 100
/** Of the job that misses it. */
const DEADLINE_S = 5

interface Queue {
  readonly targets: readonly Record<string, unknown>[]
}

let folder: string
let valkey: ValkeyServer | undefined

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'clock-'))
  valkey = findValkeyServer() === undefined ? undefined : await startValkey()
})
afterAll(async () => {
  await valkey?.stop()
  await rm(folder, { recursive: true, force: true })
})

/** A server whose clock `set` moves. */
async function startShifted(engine: Engine, backend: string) {
  const file = join(folder, `${engine}-${Math.random()}`)
  const { command, args } = commandFor(engine, `src/main.${engine}.ts`)
  const preload = engine === 'node' ? '--import' : '--preload'
  // Deno takes options behind its subcommand.
  const at = engine === 'node' ? 0 : 1
  const server = await start({
    command,
    args: [...args.slice(0, at), preload, PRELOAD, ...args.slice(at)],
    env: {
      PORT: '0',
      LOG_LEVEL: 'debug',
      CLOCK_FILE: file,
      MCP_AUTH_TOKEN: TOKEN,
      RATE_LIMIT_PER_MINUTE: '1000000',
      DRAIN_DELAY_MS: '0',
      JOB_LOCK_MS: String(LOCK_MS),
      JOBS_BACKEND: backend,
      IMAGES_BACKEND: backend,
      ...(backend === 'valkey' && {
        VALKEY_URL: valkey?.url as string,
        IMAGE_URL_KEY: 'one-key-for-the-links-of-these-tests',
      }),
      RUNTIMES: JSON.stringify([
        {
          name: `sim-${engine}-${Math.random().toString(36).slice(2)}`,
          kind: 'simulated',
          options: { msPerStep: MS_PER_STEP },
          concurrency: 4,
          queue: 100,
          queuePerCaller: 100,
          defaults: { width: 64, height: 64, num_inference_steps: 2 },
        },
      ]),
    },
  })
  return {
    ...server,
    async set(offsetMs: number): Promise<void> {
      await writeFile(file, String(offsetMs))
      server.child.kill('SIGUSR2')
      await eventually(() =>
        expect(server.log).toContainEqual(
          expect.objectContaining({ event: 'clock set', offset_ms: offsetMs }),
        ),
      )
    },
  }
}

function ask(server: Running, options: { steps: number; wait: number; deadline?: number }): Promise<Answer> {
  const { steps, wait, deadline } = options
  return call(server, '/api/images', {
    body: { prompt: 'a clock', num_inference_steps: steps },
    headers: {
      prefer: `wait=${wait}`,
      ...(deadline !== undefined && { 'x-request-timeout': String(deadline) }),
    },
  })
}

/** All numbers within a value. */
function numbersOf(value: unknown): number[] {
  if (typeof value === 'number') return [value]
  return typeof value === 'object' && value ? Object.values(value).flatMap(numbersOf) : []
}

describe.each(['memory', 'valkey'])('jobs and pictures in %s', (backend) => {
  describe.each<Engine>(['node', 'deno'])('on %s', (engine) => {
    test.skipIf(backend === 'valkey' && findValkeyServer() === undefined).each([HOUR_MS, -HOUR_MS])(
      'the clock is set by %i ms while 4 of 4 slots run',
      { timeout: 120_000 },
      async (step) => {
        const server = await startShifted(engine, backend)
        try {
          const began = performance.now()
          const late = ask(server, {
            steps: (2 * RUN_MS) / MS_PER_STEP,
            wait: 60,
            deadline: DEADLINE_S,
          }).then((answer) => ({ ...answer, afterMs: performance.now() - began }))
          const running = [1, 2, 3].map(() => ask(server, { steps: RUN_MS / MS_PER_STEP, wait: 60 }))
          const queue = async () => ((await call(server, '/api/queue')) as unknown as Queue).targets[0]!
          await eventually(async () => expect(await queue()).toMatchObject({ running: 4 }))
          await server.set(step)

          // Who comes now waits for a slot, and is told a time that is neither gone nor an hour away.
          const waiting = [1, 2, 3, 4].map(() => ask(server, { steps: 2, wait: 60 }))
          expect(await late).toMatchObject({ code: 'deadline_exceeded' })
          expect((await late).afterMs).toBeGreaterThan(DEADLINE_S * 1000 - 100)
          for (const answer of await Promise.all([...running, ...waiting]))
            expect(answer).toMatchObject({ status: 200, state: 'succeeded' })

          // All that was learned meanwhile is true: nobody is refused.
          const more = await Promise.all(
            Array.from({ length: 12 }, () => ask(server, { steps: 2, wait: 60, deadline: 60 })),
          )
          for (const answer of more) expect(answer).toMatchObject({ status: 200 })
          const figures = await queue()
          expect(figures.refused).toEqual({
            overloaded: 0,
            rate_limited: 0,
            deadline_exceeded: 0,
            conflict: 0,
          })
          for (const number of numbersOf(figures)) expect(number).toBeGreaterThanOrEqual(0)
          for (const number of numbersOf(figures)) expect(number).toBeLessThan(HOUR_MS / 10)
          for (const line of server.log.filter(({ event }) => event === 'job ended'))
            for (const ms of [line.queued_ms, line.service_ms]) expect(Math.abs(ms as number)).toBe(ms)
          const events = server.log.map(({ event }) => event)
          expect(events).not.toContain('job runs again')
          // No delivery lost its lock.
          expect(server.log.filter(({ event }) => event === 'bullmq')).toEqual([])
        } finally {
          await server.stop()
        }
      },
    )
  })
})
