/**
 * `npm run test:runtime`: the Python runtime's own tests and linter, and those of the embedded model's scripts, in the
 * environment that their lock files make.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { pythonEnvironment } from './python-env.ts'

const cwd = fileURLToPath(new URL('../runtime', import.meta.url))
const report = process.env.REPORT_FILE
let python: string
try {
  python = pythonEnvironment()
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exit(1)
}

const MODEL = '../model'
const asked = process.argv.slice(2)
const steps = [
  ['ruff', 'check', '.', MODEL],
  ['ruff', 'format', '--check', '.', MODEL],
  [
    'pytest',
    ...(report ? [`--junitxml=${report}.xml`] : []),
    ...(asked.length > 0 ? asked : ['tests', `${MODEL}/tests`]),
  ],
]
const failed = steps.filter(
  (args) => spawnSync(python, ['-m', ...args], { cwd, stdio: 'inherit' }).status !== 0,
)
process.exit(failed.length === 0 ? 0 : 1)
