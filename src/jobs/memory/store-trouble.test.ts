import { pino } from 'pino'
import { beforeEach, expect, test } from 'vitest'
import { createManualRuntime } from '../../../test/fakes/manual-runtime.ts'
import { eventually } from '../../../test/support/eventually.ts'
import { AppError } from '../../errors.ts'
import { createMemoryImages } from '../../images/memory.ts'
import { createPlainPool } from '../../runtimes/pool/pool.ts'
import { createMetrics } from '../../telemetry/metrics.ts'
import type { Jobs } from '../job.ts'
import { createMemoryJobs } from './jobs.ts'

const ALICE = { id: 'alice' }
const FULL = new AppError('overloaded', 'The picture store is full; try again later.')

let runtime: ReturnType<typeof createManualRuntime>
let trouble: AppError | undefined
let jobs: Jobs

beforeEach(() => {
  runtime = createManualRuntime()
  trouble = undefined
  jobs = createMemoryJobs({
    targets: [
      {
        name: 'gpu',
        kind: 'simulated',
        concurrency: 1,
        queue: 9,
        queuePerCaller: 9,
        defaults: {},
        pool: createPlainPool(runtime, { slots: 1 }),
      },
    ],
    images: { ...createMemoryImages({ maxBytes: 2 ** 20 }), trouble: () => trouble },
    deadlineMs: 60_000,
    orphanGraceMs: 1000,
    ttlSeconds: 60,
    log: pino({ level: 'silent' }),
    metrics: createMetrics(),
  })
})

const submit = (prompt: string) => jobs.submit({ prompt }, ALICE, { idempotencyKey: prompt })

test('while the store takes no pictures new work is refused with its reason, and retries still join', async () => {
  await submit('made')
  await eventually(() => expect(runtime.runs).toHaveLength(1))
  runtime.runs[0]?.finish()
  await eventually(async () => expect((await submit('made')).job.state).toBe('succeeded'))
  await submit('running')
  trouble = FULL
  await expect(submit('new')).rejects.toBe(FULL)
  expect(jobs.queue()[0]?.refused).toMatchObject({ overloaded: 1 })
  for (const prompt of ['made', 'running']) expect(await submit(prompt)).toMatchObject({ joined: true })
})

test('a job whose turn comes meanwhile is drawn when the store takes pictures again', async () => {
  await submit('a')
  const waiting = await submit('b')
  await eventually(() => expect(runtime.runs).toHaveLength(1))
  trouble = FULL
  runtime.runs[0]?.finish()
  await eventually(async () => expect((await jobs.get(waiting.job.id, ALICE)).state).toBe('running'))
  expect(runtime.runs).toHaveLength(1)
  trouble = undefined
  await eventually(() => expect(runtime.runs).toHaveLength(2))
})
