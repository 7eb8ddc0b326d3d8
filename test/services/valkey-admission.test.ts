/** The rules of admission stand in TypeScript and, for the book, in Lua: both say the same of anything. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AdmissionView, judge } from '../../src/jobs/admission.ts'
import { aheadOf } from '../../src/jobs/figures.ts'
import { readPart } from '../../src/jobs/valkey/book/book.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

/** Few values, so that the bounds themselves are met often. */
const few = fc.nat({ max: 3 })
const ms = fc.constantFrom(0, 100, 250, 500, 1000, 1500)
const view: fc.Arbitrary<AdmissionView> = fc
  .record(
    {
      concurrency: fc.integer({ min: 1, max: 3 }),
      busy: few,
      queued: few,
      queueLimit: few,
      queuedOfCaller: few,
      queueLimitOfCaller: few,
      deadlineMs: ms,
      stale: fc.boolean(),
      measured: fc.boolean(),
      work: fc.option(fc.record({ ownMs: ms, aheadMs: fc.option(ms, { nil: undefined }) }), {
        nil: undefined,
      }),
    },
    { noNullPrototype: true },
  )
  .map(({ work, ...counts }) => ({ ...counts, ...work }))

const amount = fc.constantFrom(0, 1, 2, 0.5, 10, 37 / 1024, 1e6)
const ahead = fc.record(
  {
    model: fc.option(fc.record({ fixedMs: amount, unitMs: amount, reach: amount }), { nil: undefined }),
    count: few,
    cost: amount,
  },
  { noNullPrototype: true },
)

describe.skipIf(findValkeyServer() === undefined)('admission', () => {
  let valkey: ValkeyServer
  beforeAll(async () => {
    valkey = await startValkey()
  })
  afterAll(() => valkey?.stop())

  test('is judged alike by the book and by the backend in memory', async () => {
    const views = fc.sample(view, 5000)
    const script = `${readPart('admission')}
      local verdicts = {}
      for index, view in ipairs(cjson.decode(ARGV[1])) do verdicts[index] = judge(view) or 'admitted' end
      return verdicts`
    const verdicts = await valkey.ask((client) => client.eval(script, 0, JSON.stringify(views)))
    expect(verdicts).toEqual(views.map((one) => judge(one) ?? 'admitted'))
    expect(new Set(verdicts as string[])).toEqual(
      new Set(['full', 'callerFull', 'tooLong', 'tooLate', 'admitted']),
    )
  })

  test('work ahead takes as long for the book as for the backend in memory', async () => {
    const given = fc.sample(ahead, 2000)
    const script = `${readPart('admission')}
      local times = {}
      for index, one in ipairs(cjson.decode(ARGV[1])) do
        local ms = aheadOf(one.model, one.count, one.cost)
        times[index] = ms and string.format('%.17g', ms) or 'unknown'
      end
      return times`
    const times = (await valkey.ask((client) => client.eval(script, 0, JSON.stringify(given)))) as string[]
    expect(times.map((time) => (time === 'unknown' ? undefined : Number(time)))).toEqual(
      given.map(({ model, ...sum }) => aheadOf(model, sum)),
    )
    expect(new Set(times).size).toBeGreaterThan(10)
  })
})
