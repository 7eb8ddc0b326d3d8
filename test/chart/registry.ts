/** A real OCI registry on 127.0.0.1: Docker's, taken out of Debian's package without installing it. */
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cached } from '../../scripts/cache.ts'
import { needApt } from '../../scripts/missing.ts'

/** Path of docker-registry. @throws Missing if neither it nor apt-get is on the PATH. */
export function registryProgram(): string {
  if (spawnSync('docker-registry', ['--version']).status === 0) return 'docker-registry'
  const folder = cached('docker-registry', (path) => {
    needApt('docker-registry')
    mkdirSync(path, { recursive: true })
    for (const [command, ...args] of [
      ['apt-get', 'update', '-qq'],
      ['apt-get', 'download', '-qq', 'docker-registry'],
    ] as const)
      run(command, args, path)
    run('dpkg', ['-x', readdirSync(path)[0]!, path], path)
  })
  return join(folder, 'usr/bin/docker-registry')
}

function run(command: string, args: readonly string[], cwd: string): void {
  const { status, error } = spawnSync(command, args, { cwd, stdio: ['ignore', 2, 2] })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}`)
}

/** Starts an empty registry. @throws Error when it does not answer within 60 s. */
export async function startRegistry(): Promise<{ address: string; stop(): void }> {
  const folder = mkdtempSync(join(tmpdir(), 'registry-'))
  const port = await freePort()
  const address = `127.0.0.1:${port}`
  const config = { version: 0.1, storage: { filesystem: { rootdirectory: folder } }, http: { addr: address } }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
  const child = spawn(registryProgram(), ['serve', join(folder, 'config.json')], { stdio: 'ignore' })
  const stop = () => {
    child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
  for (const end = Date.now() + 60_000; Date.now() < end; ) {
    const answer = await fetch(`http://${address}/v2/`).catch(() => undefined)
    if (answer?.ok) return { address, stop }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  stop()
  throw new Error(`docker-registry does not answer at ${address}`)
}

function freePort(): Promise<number> {
  const server = createServer()
  return new Promise((resolve) =>
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    }),
  )
}
