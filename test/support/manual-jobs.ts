/** What a backend of jobs is made of where a test ends the runs by hand: one target, `gpu`, and its runtime. */
import { pino } from 'pino'
import { createMemoryImages } from '../../src/images/memory.ts'
import type { JobsOptions } from '../../src/jobs/job.ts'
import { createPlainPool } from '../../src/runtimes/pool/pool.ts'
import type { Target } from '../../src/runtimes/targets.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { createManualRuntime } from '../fakes/manual-runtime.ts'

/**
 * The options, with the given ones in the place of the usual, and the runtime.
 * @param options.slots of the target.
 * @param options.queue pictures that may wait, of one caller as well.
 */
export function manualJobs({
  slots,
  queue,
  defaults = {},
  ...given
}: { slots: number; queue: number; defaults?: Target['defaults'] } & Partial<JobsOptions>) {
  const runtime = createManualRuntime()
  const options: JobsOptions = {
    targets: [
      {
        name: 'gpu',
        kind: 'simulated',
        concurrency: slots,
        queue,
        queuePerCaller: queue,
        defaults,
        pool: createPlainPool(runtime, { slots }),
      },
    ],
    images: createMemoryImages({ maxBytes: 2 ** 20 }),
    deadlineMs: 600_000,
    orphanGraceMs: 1000,
    ttlSeconds: 7200,
    log: pino({ level: 'silent' }),
    metrics: createMetrics(),
    ...given,
  }
  return { options, runtime }
}
