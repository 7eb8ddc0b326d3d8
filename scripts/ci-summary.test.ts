import { describe, expect, test } from 'vitest'
import { countTier, failures, formatCount } from './ci-summary.ts'

const VITEST = '{"numPassedTests":7,"numFailedTests":2,"numPendingTests":1}'
const JUNIT =
  '<?xml version="1.0"?><testsuites name="pytest"><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10">'
const SKIPPED = 'Skipped: load tests. k6 needs Go 1.26 or newer.\n'

describe('a suite of .ci/run', () => {
  test.each([
    ['vitest', { status: 1, log: '', report: VITEST }, '7 passed, 2 failed, 1 skipped'],
    ['pytest', { status: 1, log: '', report: JUNIT }, '4 passed, 3 failed, 3 skipped'],
    ['a closing line', { status: 1, log: 'ok\n3 passed, 1 failed\nbye\n' }, '3 passed, 1 failed'],
    ['a log without counts', { status: 0, log: 'all is well\n' }, '1 passed, 0 failed'],
    ['no counts, failed', { status: 1, log: '' }, '0 passed, 1 failed'],
    [
      'failed after its tests passed',
      { status: 1, log: '', report: '{"numPassedTests":7,"numFailedTests":0,"numPendingTests":0}' },
      '7 passed, 1 failed',
    ],
    ['skipped as a whole', { status: 0, log: `> npm run\n${SKIPPED}` }, '0 passed, 0 failed, 1 skipped'],
    [
      'skipped in part',
      {
        status: 0,
        log: SKIPPED,
        report: '{"numPassedTests":7,"numFailedTests":0,"numPendingTests":0}',
      },
      '7 passed, 0 failed, 1 skipped',
    ],
    [
      'skipped tests, of which its log says why',
      { status: 1, log: SKIPPED, report: VITEST },
      '7 passed, 2 failed, 1 skipped',
    ],
    ['said what it skips, then failed', { status: 1, log: SKIPPED }, '0 passed, 1 failed, 1 skipped'],
  ])('%s', (_, tier, count) => {
    expect(formatCount(countTier(tier))).toBe(count)
  })
})

describe('what failed is named', () => {
  test('by vitest', () => {
    const report = JSON.stringify({
      testResults: [
        {
          name: 'jobs.test.ts',
          status: 'failed',
          assertionResults: [
            { status: 'passed', fullName: 'runs', failureMessages: [] },
            { status: 'failed', fullName: 'ends', failureMessages: ['Error: no end\n    at x'] },
          ],
        },
        { name: 'broken.test.ts', status: 'failed', message: 'SyntaxError: x', assertionResults: [] },
      ],
    })
    expect(failures({ status: 1, log: '', report })).toEqual([
      'jobs.test.ts: ends\n  Error: no end\n      at x',
      'broken.test.ts\n  SyntaxError: x',
    ])
  })
  test('by pytest', () => {
    const report = `${JUNIT}<testcase classname="t" name="a"/><testcase classname="t" name="b" time="1"><failure message="assert 1">x`
    expect(failures({ status: 1, log: '', report })).toEqual(['b\n  assert 1'])
  })
  test('by a script', () => {
    expect(failures({ status: 1, log: 'ok      starts\nFAILED  draws (1 s)\n' })).toEqual([
      'FAILED  draws (1 s)',
    ])
  })
})
