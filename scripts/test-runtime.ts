/**
 * `npm run test:runtime`: tests and linter of the Python runtime and of the embedded model's scripts, in the environment
 * of their lock files. Needs Python 3.11.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { exitUnprepared } from './missing.ts'
import { pythonEnvironment } from './python-env.ts'

const cwd = fileURLToPath(new URL('../runtime', import.meta.url))
const report = process.env.REPORT_FILE
let python: string
try {
  python = pythonEnvironment()
} catch (error) {
  exitUnprepared('tests of the Python runtime and of the model', error)
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
