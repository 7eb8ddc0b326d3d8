/** Prometheus' rule checker: from the PATH, else taken out of Debian's package without installing its daemon. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { cached } from '../../scripts/cache.ts'
import { needApt } from '../../scripts/missing.ts'

/** Path of promtool. @throws Missing if neither it nor apt-get is on the PATH. */
export function promtool(): string {
  if (spawnSync('promtool', ['--version']).status === 0) return 'promtool'
  const folder = cached('promtool', (path) => {
    needApt('promtool (of Prometheus 2.40 or newer)')
    mkdirSync(path, { recursive: true })
    run('apt-get', ['update', '-qq'], path)
    run('apt-get', ['download', '-qq', 'prometheus'], path)
    const [file] = readdirSync(path)
    run('dpkg', ['-x', file!, path], path)
  })
  return join(folder, 'usr/bin/promtool')
}

function run(command: string, args: readonly string[], cwd: string): void {
  const { status, error } = spawnSync(command, args, { cwd, stdio: ['ignore', 2, 2] })
  if (status !== 0)
    throw new Error(
      `${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}. Put promtool (of Prometheus 2.40 or newer) on the PATH.`,
    )
}
