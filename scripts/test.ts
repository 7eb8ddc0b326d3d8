/**
 * `npm test`: unit tests, the contract suite on Node and Deno, and one real picture through the Python runtime.
 * `-- --without-runtime` leaves the last out where there is no Python; other arguments go to vitest.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { pythonEnvironment } from './python-env.ts'

const WITHOUT_RUNTIME = '--without-runtime'
const args = process.argv.slice(2)
const withRuntime = !args.includes(WITHOUT_RUNTIME)
const projects = ['unit', 'contract', ...(withRuntime ? ['e2e'] : [])]

const env = { ...process.env }
if (withRuntime) {
  try {
    env.RUNTIME_PYTHON = pythonEnvironment()
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    process.exit(1)
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
