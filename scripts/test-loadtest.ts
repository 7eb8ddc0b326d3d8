/** `npm run test:loadtest`: builds k6 where that is due, then runs the scenarios in a short form; arguments go to vitest. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { tool } from './tools.ts'

try {
  tool('k6')
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exit(1)
}
const vitest = fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url))
const args = [vitest, 'run', '--project', 'loadtest', ...process.argv.slice(2)]
process.exit(spawnSync(process.execPath, args, { stdio: 'inherit' }).status ?? 1)
