/** What is kept of jobs that have ended: how much, and whose. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, test } from 'vitest'
import { manualJobs } from '../../../test/support/manual-jobs.ts'
import type { Jobs } from '../job.ts'
import { createMemoryJobs } from './jobs.ts'

setFlagsFromString('--expose_gc')
const gc: () => void = runInNewContext('gc')

const JOBS = 10_000
/** What an ended job may take in the heap. */
const ENDED_BYTES = 1024

function open(remembered?: number) {
  const { options, runtime } = manualJobs({
    slots: 1,
    queue: 10,
    defaults: { width: 512, height: 512, num_inference_steps: 20 },
    orphanGraceMs: 600_000,
    ttlSeconds: 3600,
    remembered,
  })
  return { jobs: createMemoryJobs(options), runtime }
}

/** Has a job admitted and cancelled. */
async function cancelOne(jobs: Jobs, prompt: string, key?: string): Promise<void> {
  const alice = { id: 'token:alice' }
  const waiter = await jobs.submit({ prompt, negative_prompt: prompt }, alice, { idempotencyKey: key })
  await jobs.cancel(waiter.job.id, alice)
  await waiter.leave()
}

describe('an ended job', () => {
  test.each([
    ['that ran', true],
    ['that waited', false],
  ])('%s takes 1 KiB of the heap, whatever its prompts', async (_, runs) => {
    const { jobs, runtime } = open()
    if (!runs) await jobs.submit({ prompt: 'runs' }, { id: 'bob' })
    const used = () => {
      runtime.runs.length = 0
      gc()
      return process.memoryUsage().heapUsed
    }
    for (let n = 0; n < 100; n += 1) await cancelOne(jobs, `${n}`)
    const before = used()
    for (let n = 0; n < JOBS; n += 1) await cancelOne(jobs, `${n} ${'狐'.repeat(1900)}`, `key ${n}`)
    const each = (used() - before) / JOBS
    expect(each).toBeLessThan(ENDED_BYTES)
    expect(jobs.queue()[0]?.ended.cancelled).toBe(JOBS + 100)
  })
})
