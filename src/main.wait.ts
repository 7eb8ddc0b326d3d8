/** What the chart runs before the server: waits for the targets, and says which is missing. Exit status 1 when late. */
import { waitForTargets } from './runtimes/until-ready.ts'
import { configOrExit } from './start.ts'

const config = configOrExit({ args: process.argv.slice(2) })
const ready = await waitForTargets({
  targets: config.targets,
  timeoutMs: config.runtimeWaitMs,
  say: (line) => process.stdout.write(`${line}\n`),
})
process.exit(ready ? 0 : 1)
