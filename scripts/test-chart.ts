/** `npm run test:chart`: builds what the tests of the chart need, then runs them; arguments go to vitest. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { checkov } from '../test/chart/checkov.ts'
import { promtool } from '../test/chart/promtool.ts'
import { registryProgram } from '../test/chart/registry.ts'
import { schemaLocation } from './chart-schemas.ts'
import { TOOL_NAMES, tool } from './tools.ts'

try {
  TOOL_NAMES.filter((name) => name !== 'k6').map(tool)
  schemaLocation()
  checkov()
  promtool()
  registryProgram()
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exit(1)
}
const vitest = fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url))
const args = [vitest, 'run', '--project', 'chart', ...process.argv.slice(2)]
process.exit(spawnSync(process.execPath, args, { stdio: 'inherit' }).status ?? 1)
