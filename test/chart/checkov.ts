/**
 * checkov (PyPI), the linter of Kubernetes objects beside kube-score; kube-linter and polaris are not to be had where
 * this project is built, because the Go module proxy refuses them.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { cached } from '../../scripts/cache.ts'
import { Missing } from '../../scripts/missing.ts'

const VERSION = '3.3.30'

/** Path of checkov, installed on first use. @throws Missing without Python. */
export function checkov(): string {
  const venv = cached(`checkov-${VERSION}`, (path) => {
    if (spawnSync('python3', ['--version']).status !== 0)
      throw new Missing('checkov needs python3 on the PATH to be installed.')
    process.stderr.write(`Installing checkov ${VERSION}, once ...\n`)
    run('python3', ['-m', 'venv', path])
    run(join(path, 'bin/python'), [
      ...['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `checkov==${VERSION}`],
    ])
  })
  // Scripts in a virtual environment name the folder that it was made in.
  return join(venv, 'bin/checkov')
}

export interface Finding {
  readonly check: string
  readonly resource: string
  readonly name: string
}

/** What checkov finds in some YAML. Asks nobody over the network. */
export function findings(file: string): Finding[] {
  const args = ['--file', file, '--framework', 'kubernetes', '--output', 'json', '--quiet', '--skip-download']
  const python = join(checkov(), '../python')
  const { stdout, stderr } = spawnSync(python, [checkov(), ...args], { encoding: 'utf8', maxBuffer: 2 ** 26 })
  try {
    const { results, summary } = JSON.parse(stdout)
    if (!(summary.passed > 0)) throw new Error('nothing was checked')
    return results.failed_checks.map((one: Record<string, string>) => ({
      check: one.check_id,
      resource: one.resource,
      name: one.check_name,
    }))
  } catch (error) {
    throw new Error(`checkov: ${(error as Error).message}\n${stdout}${stderr}`)
  }
}

function run(command: string, args: readonly string[]): void {
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 2, 2] })
  if (status !== 0)
    throw new Error(`${command} ${args.slice(0, 3).join(' ')} failed${error ? `: ${error.message}` : ''}`)
}
