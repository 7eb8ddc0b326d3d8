/**
 * `npm run test:services`: backends and whole groups of servers against real stores; arguments go to vitest. Says first
 * which stores are missing, because their tests are skipped.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { findPython } from '../test/support/seaweedfs.ts'
import { givenTrino, missingForTrino } from '../test/support/trino.ts'
import { findValkeyServer } from '../test/support/valkey.ts'
import { saySkipped } from './missing.ts'

if (process.getuid?.() === 0)
  console.log('As root: apt-get installs redis-server, maven (for Trino) and chromium if they are missing.')
const valkey = findValkeyServer()
const trinoLacks = givenTrino() ? undefined : missingForTrino()
if (!valkey) saySkipped('tests with Valkey', 'Put valkey-server or redis-server on the PATH.')
if (!findPython()) saySkipped('tests with S3', 'SeaweedFS from PyPI needs Python 3.9 or newer with venv.')
if (trinoLacks) saySkipped('tests with Trino', `${trinoLacks}; or set TRINO_TEST_URL.`)

const vitest = fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url))
const args = [vitest, 'run', '--project', 'services', ...process.argv.slice(2)]
process.exit(spawnSync(process.execPath, args, { stdio: 'inherit' }).status ?? 1)
