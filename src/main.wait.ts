/** The chart runs this before the server. It waits for the targets and says which one is missing. Exit status 1 after the timeout. */
import { waitForTargets } from './runtimes/until-ready.ts'
import { configOrExit } from './start.ts'

const config = configOrExit({ args: process.argv.slice(2) })
const ready = await waitForTargets({
  targets: config.targets,
  timeoutMs: config.runtimeWaitMs,
  say: (line) => process.stdout.write(`${line}\n`),
})
process.exit(ready ? 0 : 1)
