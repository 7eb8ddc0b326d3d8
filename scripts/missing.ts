/**
 * What a suite needs and this machine may lack, such as Python, Go or a cluster. Then the suite, or the part of it, is
 * skipped with a line that says why. Everything else that goes wrong is a failure.
 */
import { spawnSync } from 'node:child_process'

/** The machine lacks something. The message says what it is and what to do. */
export class Missing extends Error {
  override name = 'Missing'
}

/** Says what is skipped and why. `.ci/run` counts these lines and repeats them at its end. */
export function saySkipped(what: string, why: string): void {
  process.stdout.write(`Skipped: ${what}. ${why}\n`)
}

/** Ends the process of a suite that cannot be prepared: with 0 if the machine lacks something, else with 1. */
export function exitUnprepared(suite: string, error: unknown): never {
  const { message } = error as Error
  if (error instanceof Missing) {
    saySkipped(suite, message)
    process.exit(0)
  }
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

/** @throws Missing without apt-get, which `program` is downloaded with when it is not on the PATH. */
export function needApt(program: string): void {
  if (spawnSync('apt-get', ['--version']).status !== 0)
    throw new Missing(`Put ${program} on the PATH; without apt-get it cannot be downloaded.`)
}
