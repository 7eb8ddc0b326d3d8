/** Real server processes for tests: started on free ports of 127.0.0.1, stopped by their own pid. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

export type Engine = 'node' | 'deno'

/** How an engine runs one of the sources; the same on every platform. */
export function commandFor(engine: Engine, entry: string): { command: string; args: string[] } {
  return engine === 'node'
    ? { command: process.execPath, args: [`${ROOT}${entry}`] }
    : { command: `${ROOT}node_modules/.bin/deno`, args: ['run', '--quiet', '--allow-all', `${ROOT}${entry}`] }
}

export interface Running {
  readonly url: string
  readonly child: ChildProcess
  /** JSON log lines so far. */
  readonly log: Record<string, unknown>[]
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>
}

/** The environment that a test gives, on top of the little that processes need. */
export function cleanEnv(env: Record<string, string>): Record<string, string> {
  const { PATH = '', HOME = '' } = process.env
  return { PATH, HOME, ...env }
}

/** How long a process may take until it listens, in milliseconds. */
const START_MS = 120_000

/**
 * Starts a process that prints one JSON line with a `url` when it listens (the server does so at LOG_LEVEL=info).
 * @throws Error with everything it printed when it ends before that, or does not listen in time.
 */
export async function start(options: {
  readonly command: string
  readonly args: readonly string[]
  readonly env: Record<string, string>
  readonly cwd?: string
}): Promise<Running> {
  const child = spawn(options.command, options.args, {
    env: cleanEnv(options.env),
    cwd: options.cwd ?? ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const log: Record<string, unknown>[] = []
  let printed = ''
  child.stderr.on('data', (chunk) => {
    printed += chunk
  })
  const ended = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)))
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      printed += `${line}\n`
      try {
        const entry = JSON.parse(line)
        log.push(entry)
        if (typeof entry.url === 'string') {
          clearTimeout(tooLate)
          resolve(entry.url)
        }
      } catch {
        // Not every line is ours.
      }
    })
    const tooLate = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`${options.args.join(' ')} does not listen:\n${printed}`))
    }, START_MS)
    void ended.then(() => clearTimeout(tooLate))
    void ended.then((code) => reject(new Error(`${options.args.join(' ')} ended with ${code}:\n${printed}`)))
  })
  return {
    url,
    child,
    log,
    async stop() {
      child.kill('SIGTERM')
      return await ended
    },
  }
}

/** RUNTIMES for servers whose pictures are not what is tested. */
export const SIMULATED = JSON.stringify([{ name: 'simulated', kind: 'simulated' }])

/** The diffusers-mcp server on a free port; its pictures are simulated unless `env` names a runtime. */
export function startServer(engine: Engine, env: Record<string, string>): Promise<Running> {
  const drawn: Record<string, string> = env.DIFFUSERS_RUNTIME_URL ? {} : { RUNTIMES: SIMULATED }
  return start({
    ...commandFor(engine, `src/main.${engine}.ts`),
    env: { PORT: '0', ...drawn, ...env },
  })
}

/** The simulated KServe runtime as a process of its own, on a free port where `env` names none. */
export function startSimulatedRuntime(
  options: Record<string, unknown>,
  env: Record<string, string> = {},
): Promise<Running> {
  return start({
    ...commandFor('node', 'src/main.simulated.ts'),
    env: { PORT: '0', SIMULATED_OPTIONS: JSON.stringify(options), ...env },
  })
}
