/** The suites of chart/tests, one test here for each of theirs. */
import { readdirSync } from 'node:fs'
import { expect, test } from 'vitest'
import { CHART, run } from './helm.ts'

test.each(readdirSync(`${CHART}/tests`).filter((name) => name.endsWith('_test.yaml')))('%s', (suite) => {
  const { status, printed } = run('helm-unittest', ['--file', `tests/${suite}`, CHART])
  expect(printed).toMatch(/Tests: +[1-9]\d* passed, [1-9]\d* total/)
  expect(status, printed).toBe(0)
})
