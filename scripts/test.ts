/**
 * `npm test`: unit tests, the contract suite on Node and Deno, and real pictures through the Python runtime. The last
 * are skipped without Python 3.11, and with `-- --without-runtime`. Other arguments go to vitest.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { exitUnprepared, Missing, saySkipped } from './missing.ts'
import { pythonEnvironment } from './python-env.ts'

const WITHOUT_RUNTIME = '--without-runtime'
const args = process.argv.slice(2)
const projects = ['unit', 'contract']

const env = { ...process.env }
if (!args.includes(WITHOUT_RUNTIME)) {
  try {
    env.RUNTIME_PYTHON = pythonEnvironment()
    projects.push('e2e')
  } catch (error) {
    if (!(error instanceof Missing)) exitUnprepared('npm test', error)
    saySkipped('real pictures through the Python runtime', error.message)
  }
}

const { status } = spawnSync(
  process.execPath,
  [
    fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url)),
    'run',
    ...projects.flatMap((project) => ['--project', project]),
    ...args.filter((arg) => arg !== WITHOUT_RUNTIME),
  ],
  { stdio: 'inherit', env },
)
process.exit(status ?? 1)
