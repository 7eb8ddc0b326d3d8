/** The suites of the shared backends once more, on Deno: vitest itself runs there. */
import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { cleanEnv, ROOT } from '../support/process.ts'
import { findValkeyServer } from '../support/valkey.ts'

const SUITES = ['valkey-jobs', 'valkey-images']

describe.skipIf(findValkeyServer() === undefined)('on Deno', { timeout: 300_000 }, () => {
  test.each(SUITES)('%s', (suite) => {
    const vitest = [
      'node_modules/vitest/vitest.mjs',
      'run',
      '--project',
      'services',
      `test/services/${suite}.test.ts`,
    ]
    const { stdout, stderr, status } = spawnSync(
      `${ROOT}node_modules/.bin/deno`,
      ['run', '--quiet', '--allow-all', ...vitest],
      { cwd: ROOT, env: cleanEnv({ ENGINE: 'deno' }), encoding: 'utf8' },
    )
    expect(status, stdout + stderr).toBe(0)
  })
})
