/** The rule of admission stands in TypeScript and, for the book, in Lua: both say the same of any view. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AdmissionView, judge } from '../../src/jobs/admission.ts'
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
      work: fc.option(fc.record({ ownMs: ms, aheadMs: ms }), { nil: undefined }),
    },
    { noNullPrototype: true },
  )
  .map(({ work, ...counts }) => ({ ...counts, ...work }))

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
})
