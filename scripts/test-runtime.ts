/** `npm run test:runtime`: the Python runtime's own tests and linter, in the environment that its lock file makes. */
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

const steps = [
  ['ruff', 'check', '.'],
  ['ruff', 'format', '--check', '.'],
  ['pytest', ...(report ? [`--junitxml=${report}.xml`] : []), ...process.argv.slice(2)],
]
const failed = steps.filter(
  (args) => spawnSync(python, ['-m', ...args], { cwd, stdio: 'inherit' }).status !== 0,
)
process.exit(failed.length === 0 ? 0 : 1)
