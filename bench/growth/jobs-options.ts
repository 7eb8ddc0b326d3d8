/** What a backend of jobs is made of for the laws: one target whose runs end only when they are told to. */
import { pino } from 'pino'
import { createMemoryImages } from '../../src/images/memory.ts'
import type { JobsOptions } from '../../src/jobs/job.ts'
import { createPlainPool } from '../../src/runtimes/pool/pool.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { createManualRuntime } from '../../test/fakes/manual-runtime.ts'

/** Nothing ends by itself: the longest that a timer takes, in milliseconds. */
export const LONG_MS = 2 ** 31 - 1

/** Options with a runtime of their own, and that runtime. */
export function manualJobs({ concurrency }: { concurrency: number }) {
  const runtime = createManualRuntime()
  const options: JobsOptions = {
    targets: [
      {
        ...{
          name: 'bench',
          kind: 'simulated',
          concurrency,
          queue: 100_000,
          queuePerCaller: 100_000,
          pool: createPlainPool(runtime, { slots: concurrency }),
        },
        defaults: { width: 64, height: 64, num_inference_steps: 10 },
      },
    ],
    images: createMemoryImages({ maxBytes: 2 ** 28 }),
    deadlineMs: LONG_MS,
    orphanGraceMs: 1000,
    ttlSeconds: 3600,
    log: pino({ level: 'silent' }),
    metrics: createMetrics(),
  }
  return { options, runtime }
}
