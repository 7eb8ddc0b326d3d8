/** What a backend of jobs is made of for the laws: one target whose runs end only when they are told to. */
import { createMemoryImages } from '../../src/images/memory.ts'
import { manualJobs } from '../../test/support/manual-jobs.ts'

/** Nothing ends by itself: the longest that a timer takes, in milliseconds. */
const LONG_MS = 2 ** 31 - 1

/** Options with a runtime of their own, and that runtime. */
export function jobsOfLaw({ concurrency }: { concurrency: number }) {
  return manualJobs({
    slots: concurrency,
    queue: 100_000,
    defaults: { width: 64, height: 64, num_inference_steps: 10 },
    images: createMemoryImages({ maxBytes: 2 ** 28 }),
    deadlineMs: LONG_MS,
    ttlSeconds: 3600,
  })
}
