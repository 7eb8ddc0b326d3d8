/** The scripts of the book of jobs in Valkey, by all that a target may have many of. */
import { createDriver, type Driver } from './book-driver.ts'
import type { Costs, Law, Stand } from './law.ts'
import type { MeasuredValkey } from './valkey.ts'

/** What a target has, in jobs and callers. */
interface Shape {
  readonly queued: number
  readonly running: number
  readonly callers: number
  /** Jobs that have ended and are remembered. */
  readonly ended: number
}

const USUAL: Shape = { queued: 100, running: 16, callers: 10, ended: 0 }
/** Calls of each script in a round: fewer than jobs that run, because some of these end. */
const CALLS = 15
/** Queued jobs that one script reads for a server that follows them. */
const READ_TOGETHER = 50

export function bookLaws({ valkey, quick }: { valkey: MeasuredValkey; quick: boolean }): Law[] {
  const small = quick ? 300 : 1000
  const law = (by: string, n: number, shape: (n: number) => Partial<Shape>): Law => ({
    where: 'book in Valkey',
    by,
    small: n,
    setUp: (size) => openStand(valkey, { ...USUAL, ...shape(size) }),
  })
  return [
    law('queued', small, (queued) => ({ queued })),
    law('running', quick ? 50 : 100, (running) => ({ running })),
    law('callers that wait', small, (callers) => ({ callers, queued: 10 * small })),
    law('remembered jobs', small, (ended) => ({ ended })),
  ]
}

async function openStand(valkey: MeasuredValkey, shape: Shape): Promise<Stand> {
  const driver = await createDriver({ url: valkey.url, concurrency: shape.running, callers: shape.callers })
  await driver.atOnce(shape.running, driver.submit)
  await driver.atOnce(shape.running, driver.start)
  await driver.atOnce(shape.queued + shape.ended, driver.submit)
  await driver.atOnce(shape.ended, driver.cancel)
  return { round: () => round(valkey, driver), close: driver.close }
}

/** Each script some times; the queue and the slots are as full afterwards as before. */
async function round(valkey: MeasuredValkey, driver: Driver): Promise<Costs> {
  /** Microseconds of Valkey per call. */
  const each = async (act: () => Promise<unknown>, calls = CALLS) =>
    (await valkey.scripts(() => driver.atOnce(calls, act))).micros / calls
  return {
    // For those that are cancelled, and for those that get a slot.
    'submit and admit, us': await each(driver.submit, 2 * CALLS),
    'submit and refuse, us': await each(driver.refused),
    'get of a queued job, us': await each(driver.get),
    'snapshots of 50 queued jobs, us': await each(() => driver.snapshots(READ_TOGETHER)),
    'cancel of a queued job, us': await each(driver.cancel),
    'progress, us': await each(driver.progress),
    'finish and grant, us': await each(driver.finish),
    'start, us': await each(driver.start),
  }
}
