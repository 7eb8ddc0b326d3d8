import { describe, expect, test } from 'vitest'
import { countTier } from './ci-summary.ts'

const VITEST = '{"numPassedTests":7,"numFailedTests":2}'
const JUNIT =
  '<?xml version="1.0"?><testsuites name="pytest"><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10">'

describe('a tier of .ci/run', () => {
  test.each([
    ['vitest', { status: 1, report: VITEST }, { passed: 7, failed: 2 }],
    ['pytest', { status: 1, report: JUNIT }, { passed: 4, failed: 3 }],
    ['a closing line', { status: 1, report: 'ok\n3 passed, 1 failed\nbye\n' }, { passed: 3, failed: 1 }],
    ['a log without counts', { status: 0, report: 'all is well\n' }, { passed: 1, failed: 0 }],
    ['no report, passed', { status: 0, report: undefined }, { passed: 1, failed: 0 }],
    ['no report, failed', { status: 1, report: undefined }, { passed: 0, failed: 1 }],
    [
      'failed after its tests passed',
      { status: 1, report: '{"numPassedTests":7,"numFailedTests":0}' },
      { passed: 7, failed: 1 },
    ],
  ])('%s', (_, tier, count) => {
    expect(countTier(tier)).toEqual(count)
  })
})
