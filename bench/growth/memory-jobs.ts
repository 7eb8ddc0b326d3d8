/** What happens to a job in memory, by all that a target may have many of. */
import { setImmediate as turn } from 'node:timers/promises'
import type { Job } from '../../src/jobs/job.ts'
import { createMemoryJobs } from '../../src/jobs/memory/jobs.ts'
import { jobsOfLaw } from './jobs-options.ts'
import { cpuMicros, type Law, type Stand } from './law.ts'

/** What a target has, in jobs and callers. */
interface Shape {
  readonly queued: number
  readonly callers: number
  /** Waiting jobs of a size that nobody asked for before, each another one. */
  readonly sizes: number
}

const CONCURRENCY = 16
const USUAL: Shape = { queued: 100, callers: 10, sizes: 0 }
/** Events of a kind in a round. Few ends: each teaches a size that is as good as known from then on. */
const EVENTS = 10
const ENDS = 3
/** Sizes that were finished before; as many as an estimator remembers, some times each. */
const SEEN_SIZES = 64
const SEEN_TIMES = 6
/** More steps than those have. */
const UNSEEN_STEPS = 1000

export function memoryJobLaws({ quick }: { quick: boolean }): Law[] {
  const law = (by: string, n: number, shape: (n: number) => Partial<Shape>): Law => ({
    where: 'jobs in memory',
    by,
    small: n,
    setUp: (size) => openStand({ ...USUAL, ...shape(size) }),
  })
  const callers = quick ? 50 : 100
  const sizes = quick ? 20 : 30
  return [
    law('queued', quick ? 200 : 500, (queued) => ({ queued })),
    law('callers that wait', callers, (n) => ({ callers: n, queued: 10 * callers })),
    law('sizes never seen', sizes, (n) => ({ sizes: n, queued: 10 * sizes })),
  ]
}

async function openStand({ queued, callers, sizes }: Shape): Promise<Stand> {
  const { options, runtime } = jobsOfLaw({ concurrency: CONCURRENCY })
  const jobs = createMemoryJobs(options)
  /** Those that were submitted, oldest first. */
  const submitted: Job[] = []
  let asked = 0
  let ended = 0
  const submitSteps = async (steps: number) => {
    const caller = { id: `caller ${asked++ % callers}` }
    submitted.push((await jobs.submit({ prompt: 'a fox', num_inference_steps: steps }, caller)).job)
  }
  /** As many of those that wait have a size of their own as the law says, whoever leaves. */
  const submit = () => {
    const before = (count: number) => Math.floor((count * sizes) / queued)
    return submitSteps(before(asked + 1) > before(asked) ? UNSEEN_STEPS + asked : 10)
  }
  /** Ends the run that began first, and waits until that shows. */
  const end = async (shows: () => boolean) => {
    while (!runtime.runs[ended]) await turn()
    runtime.runs[ended++]?.finish()
    while (!shows()) await turn()
  }
  const endAndStart = () => {
    const begun = runtime.runs.length
    return end(() => runtime.runs.length > begun)
  }
  const times = async (count: number, act: () => Promise<unknown>) => {
    for (let done = 0; done < count; done += 1) await act()
  }
  const each = async (act: () => Promise<unknown>, count = EVENTS) =>
    (await cpuMicros(() => times(count, act))) / count
  /** One that waits, neither the first nor the last. */
  const cancel = async () => {
    const { id, owner } = submitted.splice(-(queued >> 1), 1)[0] as Job
    await jobs.cancel(id, { id: owner })
  }

  for (let seen = 0; seen < SEEN_SIZES * SEEN_TIMES; seen += 1) {
    await submitSteps(1 + (seen % SEEN_SIZES))
    await end(() => jobs.queue()[0]?.running === 0)
  }
  await times(CONCURRENCY + queued, submit)

  return {
    round: async () => ({
      // For those that are cancelled, and for those that get a slot.
      'admission, us': await each(submit, EVENTS + ENDS),
      'cancel of a queued job, us': await each(cancel),
      'end and next start, us': await each(endAndStart, ENDS),
    }),
    // Memory goes with the process.
    async close() {},
  }
}
