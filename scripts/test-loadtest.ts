/**
 * `npm run test:loadtest`: runs the k6 scenarios in a short form. Arguments go to vitest. The first run builds k6, which
 * needs Go 1.26.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { exitUnprepared } from './missing.ts'
import { tool } from './tools.ts'

try {
  tool('k6')
} catch (error) {
  exitUnprepared('load tests', error)
}
const vitest = fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url))
const args = [vitest, 'run', '--project', 'loadtest', ...process.argv.slice(2)]
process.exit(spawnSync(process.execPath, args, { stdio: 'inherit' }).status ?? 1)
