/**
 * `npm run test:chart`: tests of the chart; arguments go to vitest. The first run builds Helm and the linters, which
 * needs Go 1.26, and takes promtool and docker-registry out of Debian's packages, which needs apt-get but not root.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { checkov } from '../test/chart/checkov.ts'
import { promtool } from '../test/chart/promtool.ts'
import { registryProgram } from '../test/chart/registry.ts'
import { schemaLocation } from './chart-schemas.ts'
import { exitUnprepared, Missing, saySkipped } from './missing.ts'
import { TOOL_NAMES, tool } from './tools.ts'

/** Programs that only some of the tests need. */
const PARTS = [
  { what: 'linters', file: 'test/chart/linters.test.ts', prepare: checkov },
  { what: 'alerts', file: 'test/chart/alerts.test.ts', prepare: promtool },
  { what: 'release into a registry', file: 'test/chart/release.test.ts', prepare: registryProgram },
]

const left: string[] = []
try {
  TOOL_NAMES.filter((name) => name !== 'k6').map(tool)
  schemaLocation()
  for (const { what, file, prepare } of PARTS)
    try {
      prepare()
    } catch (error) {
      if (!(error instanceof Missing)) throw error
      saySkipped(`tests of the chart: ${what}`, error.message)
      left.push(`--exclude=${file}`)
    }
} catch (error) {
  exitUnprepared('tests of the chart', error)
}
const vitest = fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url))
const args = [vitest, 'run', '--project', 'chart', ...left, ...process.argv.slice(2)]
process.exit(spawnSync(process.execPath, args, { stdio: 'inherit' }).status ?? 1)
