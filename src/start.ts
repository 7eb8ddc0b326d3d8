/** The first steps of every entry point: answer --help, read the configuration. */
import { type Config, loadConfig } from './config/config.ts'
import { configHelp } from './config/help.ts'
import { ConfigError } from './config/problem.ts'

/** Exit status for a wrong configuration: 2, as shells use for wrong usage. */
const EXIT_CONFIG = 2

/** Returns the configuration of this process. Ends the process for `--help` and for a wrong environment. */
export function configOrExit({ args }: { args: readonly string[] }): Config {
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(configHelp())
    process.exit(0)
  }
  if (args.length > 0) {
    process.stderr.write(
      `Unknown argument ${args[0]}: the server is configured by environment variables; try --help.\n`,
    )
    process.exit(EXIT_CONFIG)
  }
  try {
    return loadConfig(process.env)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`${error.message}\nRun with --help for the table of variables.\n`)
    process.exit(EXIT_CONFIG)
  }
}

/** Ends the process with a sentence instead of a stack trace. */
export function exitWith(sentence: string): never {
  process.stderr.write(`${sentence}\n`)
  process.exit(1)
}
