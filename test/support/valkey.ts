/** A real Valkey (or Redis) for tests: valkey-server or redis-server from the PATH, on a free port of 127.0.0.1. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { freePorts } from './ports.ts'

/** Ends a hang: how long it may take until it answers, in milliseconds; 50 ms on an idle machine. */
const START_MS = 60_000

export interface ValkeyServer {
  readonly url: string
  pid(): number
  /** Uses a connection of its own, past any client under test. */
  ask<T>(act: (client: Redis) => Promise<T>): Promise<T>
  /** Calls of commands since the start, by name; those from within scripts included. */
  commandCalls(): Promise<Record<string, number>>
  /** Stops the process in its tracks (SIGSTOP): connections stay open, nothing answers. */
  freeze(): void
  thaw(): void
  /** Ends the process at once, as a crash would; what was written to its append-only file stays. */
  kill(): Promise<void>
  /** Starts it again on the same data and port. */
  restart(): Promise<void>
  /** Ends the process and removes the data. */
  stop(): Promise<void>
}

/** Name of the program. As root on Debian it is installed when missing; undefined where there is none. */
export function findValkeyServer(): string | undefined {
  const find = () =>
    ['valkey-server', 'redis-server'].find((name) => spawnSync(name, ['--version']).status === 0)
  const found = find()
  if (found || process.getuid?.() !== 0) return found
  process.stderr.write('Installing redis-server, once ...\n')
  // The package would start a server of its own; policy-rc.d is Debian's way to say no.
  const install =
    'apt-get install -y -qq redis-server || (apt-get update -qq && apt-get install -y -qq redis-server)'
  spawnSync('sh', ['-c', install], {
    stdio: ['ignore', 'ignore', 2],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' },
  })
  return find()
}

/**
 * Starts an empty server with an append-only file and noeviction, or with other `settings`.
 * @throws Error with its last words when it does not answer.
 */
export async function startValkey(settings: Record<string, string> = {}): Promise<ValkeyServer> {
  const program = findValkeyServer()
  if (program === undefined) throw new Error('Install valkey-server or redis-server to run these tests.')
  const folder = await mkdtemp(join(tmpdir(), 'valkey-'))
  const [port] = await freePorts(1)
  const url = `redis://127.0.0.1:${port}`
  const args = Object.entries({
    port: String(port),
    bind: '127.0.0.1',
    dir: folder,
    save: '',
    appendonly: 'yes',
    appendfsync: 'everysec',
    'maxmemory-policy': 'noeviction',
    ...settings,
  }).flatMap(([name, value]) => [`--${name}`, value])
  let child: ChildProcess
  let printed = ''

  async function launch(): Promise<void> {
    child = spawn(program as string, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk) => {
        printed = `${printed}${chunk}`.slice(-4000)
      })
    for (const until = Date.now() + START_MS; ; ) {
      const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null })
      client.on('error', () => {})
      try {
        await client.connect()
        await client.ping()
        return
      } catch (error) {
        if (Date.now() > until || child.exitCode !== null)
          throw new Error(`${program} does not answer. Its last words:\n${printed}`, { cause: error })
        await new Promise((resolve) => setTimeout(resolve, 20))
      } finally {
        client.disconnect()
      }
    }
  }

  async function ask<T>(act: (client: Redis) => Promise<T>): Promise<T> {
    const client = new Redis(url)
    try {
      return await act(client)
    } finally {
      client.disconnect()
    }
  }

  // Deno's child.kill does nothing after its first call.
  const signal = (name: NodeJS.Signals) => {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null)
      process.kill(child.pid, name)
  }
  const onExit = () => signal('SIGKILL')
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('close', resolve))
    signal('SIGKILL')
    await ended
  }
  await launch()
  // Also when the tests are interrupted.
  process.once('exit', onExit)

  return {
    url,
    pid: () => child.pid as number,
    commandCalls: () =>
      ask(async (client) => {
        const info = await client.info('commandstats')
        return Object.fromEntries(
          [...info.matchAll(/^cmdstat_(\S+?):calls=(\d+)/gm)].map((match) => [match[1], Number(match[2])]),
        )
      }),
    ask,
    freeze: () => void signal('SIGSTOP'),
    thaw: () => void signal('SIGCONT'),
    kill,
    restart: launch,
    async stop() {
      await kill()
      process.off('exit', onExit)
      await rm(folder, { recursive: true, force: true })
    },
  }
}
