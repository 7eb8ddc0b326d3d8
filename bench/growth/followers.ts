/** What it costs to keep those informed who wait for queued jobs, and what one server renews in one go. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { fixedSecret } from '../../src/auth/secret.ts'
import { AppError } from '../../src/errors.ts'
import type { Job, Jobs } from '../../src/jobs/job.ts'
import { createMemoryJobs } from '../../src/jobs/memory/jobs.ts'
import { createValkeyJobs } from '../../src/jobs/valkey/jobs.ts'
import { retry } from '../../src/retry.ts'
import { jobsOfLaw } from './jobs-options.ts'
import { cpuMicros, type Law, type Stand } from './law.ts'
import { startMeasuredValkey } from './valkey.ts'

/** Followers have heard of their new places after this time, in milliseconds. */
const HEARD_MS = 1200
/** A third of it passes between two renewals of runs, two thirds between those of waiters: both are in every round. */
const LOCK_MS = 1500
const CONCURRENCY = 16
const CALLERS = 10
/** Jobs that nobody follows, one of which is cancelled in a round, so that places change. */
const SPARE = 50
/** Jobs that end before all this. */
const TAUGHT = 5
/** Submissions at once while a stand is filled. */
const AT_ONCE = 20
/** Ends a hang, in milliseconds. */
const PATIENCE_MS = 60_000
/** A script may hold up the others for so long, in microseconds: a round trip on a busy machine takes no less. */
const UNNOTICED_US = 2000

interface Shape {
  readonly followers: number
  readonly concurrency: number
}

const USUAL: Shape = { followers: 100, concurrency: CONCURRENCY }
const PLACES = 'Valkey per follower and run, us'
const SCRIPTS = 'scripts per follower and run'
const LONGEST = 'longest script, us'
const HEARING = 'CPU per follower and change, us'

export function followerLaws({ onValkey, quick }: { onValkey: boolean; quick: boolean }): Law[] {
  const usual = { rounds: quick ? 1 : 5, once: quick, floors: { [LONGEST]: UNNOTICED_US, [HEARING]: 20 } }
  const followers = { by: 'followers', small: quick ? 100 : 200, ...usual }
  const running = { by: 'running', small: 100, ...usual }
  const law = (shape: (n: number) => Partial<Shape>) => ({
    where: 'one server on Valkey',
    setUp: (n: number) => followOnValkey({ ...USUAL, ...shape(n) }),
  })
  return [
    ...(onValkey ? [{ ...law((n) => ({ followers: n })), ...followers }] : []),
    // Filling a thousand slots takes long, and the scripts of the book show the same.
    ...(onValkey && !quick ? [{ ...law((n) => ({ concurrency: n })), ...running }] : []),
    ...(quick ? [] : [{ where: 'one server in memory', setUp: followInMemory, ...followers }]),
  ]
}

/** A Valkey of its own: what one server renews on its own would count for the other. */
async function followOnValkey(shape: Shape): Promise<Stand> {
  const valkey = await startMeasuredValkey()
  const { options, runtime } = jobsOfLaw(shape)
  const server = { url: fixedSecret(valkey.url), lockMs: LOCK_MS, maxReruns: 3, prefix: randomUUID() }
  const jobs = await createValkeyJobs({ ...options, ...server })
  const change = await fill({ jobs, runtime, shape })
  return {
    async round() {
      let longest = 0
      const { calls, micros } = await valkey.scripts(async () => {
        longest = await valkey.longestScript(change)
      })
      // Renewals are part of it: of waiters by followers, of runs by running jobs.
      const each = shape.followers + shape.concurrency
      return { [PLACES]: micros / each, [SCRIPTS]: calls / each, [LONGEST]: longest }
    },
    async close() {
      await jobs.close()
      await valkey.stop()
    },
  }
}

async function followInMemory(followers: number): Promise<Stand> {
  const { options, runtime } = jobsOfLaw(USUAL)
  const change = await fill({ jobs: createMemoryJobs(options), runtime, shape: { ...USUAL, followers } })
  return {
    async round() {
      const idle = await cpuMicros(() => sleep(HEARD_MS))
      return { [HEARING]: Math.max(0, (await cpuMicros(change)) - idle) / followers }
    },
    // Memory goes with the process.
    async close() {},
  }
}

/** Fills all slots, adds jobs that are followed and jobs that are not. Returns what changes everybody's place. */
async function fill(parts: {
  readonly jobs: Jobs
  readonly runtime: ReturnType<typeof jobsOfLaw>['runtime']
  readonly shape: Shape
}): Promise<() => Promise<void>> {
  const { jobs, runtime } = parts
  const { followers, concurrency } = parts.shape
  let asked = 0
  const submit = () =>
    patiently(() => jobs.submit({ prompt: 'a fox' }, { id: `caller ${asked++ % CALLERS}` }))
  const atOnce = async (count: number, act: () => Promise<unknown>) => {
    for (let done = 0; done < count; done += AT_ONCE)
      await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - done) }, act))
  }
  const spare: Job[] = []
  const leave = async () => {
    const waiter = await submit()
    await waiter.detach()
    await waiter.leave()
    spare.push(waiter.job)
  }
  // From those that end, the server learns when the others will.
  await atOnce(TAUGHT, leave)
  while (runtime.runs.length < TAUGHT) await sleep(1)
  for (const run of runtime.runs) run.finish()
  while ((jobs.queue()[0]?.ended.succeeded ?? 0) < TAUGHT) await sleep(1)
  await atOnce(concurrency, leave)
  spare.length = 0
  // Before the others, so that their end moves everybody.
  await atOnce(SPARE, leave)
  await atOnce(followers, async () => {
    const waiter = await submit()
    void (async () => {
      for await (const _ of waiter.watch());
    })()
  })
  // Deliveries are not what is measured.
  while (runtime.runs.length < TAUGHT + concurrency) await sleep(10)
  await sleep(HEARD_MS)
  return async () => {
    const { id, owner } = spare.shift() as Job
    await patiently(() => jobs.cancel(id, { id: owner }))
    await sleep(HEARD_MS)
  }
}

/** On a busy machine a server may take Valkey for away while a stand is filled; that is over soon. */
function patiently<T>(act: () => Promise<T>): Promise<T> {
  return retry(act, {
    until: performance.now() + PATIENCE_MS,
    signal: new AbortController().signal,
    isTransient: (error) => error instanceof AppError && error.code === 'overloaded',
  })
}
