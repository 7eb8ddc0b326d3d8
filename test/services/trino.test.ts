/** The Trino tools against a real Trino. */
import { describe, expect, test } from 'vitest'
import { errors, exploring, sameAsTheirs, values } from './trino/answers.ts'
import { dying, overTls } from './trino/connection.ts'
import { cancelling, limits } from './trino/limits.ts'
import { names } from './trino/names.ts'
import { readOnly } from './trino/read-only.ts'
import { createTrinoSuite, missing } from './trino/suite.ts'
import { throughXdp } from './trino/xdp.ts'

const TOPICS = [
  ...[exploring, values, limits, cancelling, errors, readOnly, names],
  ...[throughXdp, sameAsTheirs, overTls, dying],
]

if (missing)
  describe('the Trino tools', () => {
    test.skip(`are not tested: ${missing}. Or set TRINO_TEST_URL`, () => {})
  })
else {
  const suite = createTrinoSuite()
  for (const topic of TOPICS) topic(suite)

  test('nothing that was answered or logged holds a nextUri, a password or a token', () => {
    const all = JSON.stringify(suite.answered) + suite.logged.join('')
    expect(suite.answered.length).toBeGreaterThan(100)
    expect(all).not.toMatch(/v1\/statement|nextUri|failureInfo|Basic |Bearer /)
    if (suite.own) expect(all).not.toContain(suite.own.password)
  })
}
