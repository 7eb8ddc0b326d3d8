/**
 * Python environments for tests and measurements. uv makes them outside the checkout. Each is named by the hash of its
 * lock files, so all clones of the same version share it.
 */
import { type SpawnSyncOptions, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CACHE } from './cache.ts'
import { Missing } from './missing.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const UV_VERSION = '0.13.9'
const LOCKS = ['runtime/requirements-test.lock', 'model/requirements.lock'].map((path) => join(ROOT, path))

/** Path of a Python that has the dependencies of runtime and model; see `lockedEnvironment`. */
export function pythonEnvironment(): string {
  return lockedEnvironment({ name: 'python', locks: LOCKS })
}

/**
 * Path of a Python with the packages of these lock files (with hashes). Makes the environment on first use, with
 * progress on stderr.
 * @throws Missing without Python 3.11; Error if the environment cannot be made.
 */
export function lockedEnvironment({ name, locks }: { name: string; locks: readonly string[] }): string {
  const hash = createHash('sha256')
  for (const lock of locks) hash.update(readFileSync(lock))
  const venv = join(CACHE, `${name}-${hash.digest('hex').slice(0, 16)}`)
  const python = join(venv, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python')
  const done = join(venv, '.complete')
  if (existsSync(done)) return python

  const base = findPython()
  mkdirSync(CACHE, { recursive: true })
  rmSync(venv, { recursive: true, force: true })
  process.stderr.write(`Making the Python environment of ${locks.join(' and ')} in ${venv}, once ...\n`)
  const uv = installUv(base)
  run(uv, ['venv', '--quiet', '--python', base, venv])
  const requirements = locks.flatMap((lock) => ['-r', lock])
  run(uv, ['pip', 'install', '--python', python, '--require-hashes', '--compile-bytecode', ...requirements])
  writeFileSync(done, '')
  return python
}

/**
 * Folder with the programs of these packages from PyPI, each pinned as `name==version`. They get their own environment
 * on first use, with progress on stderr.
 * @throws Missing without Python 3.11; Error if the environment cannot be made.
 */
export function pythonTools(requirements: readonly string[]): string {
  const name = requirements.join('+').replaceAll('==', '-')
  const venv = join(CACHE, name)
  const bin = join(venv, process.platform === 'win32' ? 'Scripts' : 'bin')
  const done = join(venv, '.complete')
  if (existsSync(done)) return bin
  const base = findPython()
  mkdirSync(CACHE, { recursive: true })
  rmSync(venv, { recursive: true, force: true })
  process.stderr.write(`Installing ${requirements.join(' and ')} into ${venv}, once ...\n`)
  const uv = installUv(base)
  run(uv, ['venv', '--quiet', '--python', base, venv])
  run(uv, ['pip', 'install', '--quiet', '--python', join(bin, 'python'), ...requirements])
  writeFileSync(done, '')
  return bin
}

/** uv from PyPI, in its own environment. */
function installUv(base: string): string {
  const venv = join(CACHE, `uv-${UV_VERSION}`)
  const uv = join(venv, process.platform === 'win32' ? 'Scripts/uv.exe' : 'bin/uv')
  if (!existsSync(uv)) {
    run(base, ['-m', 'venv', venv])
    run(join(venv, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python'), [
      ...['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `uv==${UV_VERSION}`],
    ])
  }
  return uv
}

function findPython(): string {
  const candidates = ['python3', 'python', 'python3.13', 'python3.12', 'python3.11']
  const seen: string[] = []
  for (const name of candidates) {
    const { status, stdout } = spawnSync(
      name,
      ['-c', 'import sys; print(sys.version_info[:2] >= (3, 11), sys.executable)'],
      {
        encoding: 'utf8',
      },
    )
    if (status !== 0) continue
    const [recent, executable] = stdout.trim().split(/ (.*)/)
    if (recent === 'True' && executable) return executable
    seen.push(name)
  }
  const found = seen.length > 0 ? `is older: ${seen.join(', ')}` : 'has none'
  throw new Missing(`It needs Python 3.11 or newer on the PATH, which ${found}.`)
}

function run(command: string, args: readonly string[], options: SpawnSyncOptions = {}): void {
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 2, 2], ...options })
  if (status !== 0)
    throw new Error(`${command} ${args.slice(0, 3).join(' ')} failed${error ? `: ${error.message}` : ''}`)
}
