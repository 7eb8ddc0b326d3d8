import { pino } from 'pino'
import { describe, expect, test } from 'vitest'
import { jobsContract } from '../../../test/backends/jobs.ts'
import { createManualRuntime } from '../../../test/fakes/manual-runtime.ts'
import { createMemoryImages } from '../../images/memory.ts'
import { createPlainPool } from '../../runtimes/pool/pool.ts'
import { createMetrics } from '../../telemetry/metrics.ts'
import { createMemoryJobs } from './jobs.ts'

jobsContract('jobs in memory', async (parts) => ({ jobs: createMemoryJobs(parts) }))

describe('jobs in memory', () => {
  test('drain fails what is left when its time is over, and says to ask again', async () => {
    const runtime = createManualRuntime()
    const jobs = createMemoryJobs({
      targets: [
        {
          name: 'gpu',
          kind: 'simulated',
          concurrency: 1,
          queue: 4,
          queuePerCaller: 4,
          defaults: {},
          pool: createPlainPool(runtime, { slots: 1 }),
        },
      ],
      images: createMemoryImages({ maxBytes: 2 ** 20 }),
      deadlineMs: 60_000,
      orphanGraceMs: 1000,
      ttlSeconds: 60,
      log: pino({ level: 'silent' }),
      metrics: createMetrics(),
    })
    const [running, waiting] = [
      await jobs.submit({ prompt: 'a' }, { id: 'alice' }),
      await jobs.submit({ prompt: 'b' }, { id: 'alice' }),
    ]
    await jobs.drain({ timeoutMs: 50 })
    for (const { job } of [running, waiting])
      expect(job).toMatchObject({
        state: 'failed',
        error: { code: 'runtime_unavailable', retry_after_seconds: 1 },
      })
    expect(runtime.runs[0]?.signal.aborted).toBe(true)
  })
})
