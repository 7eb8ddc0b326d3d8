/** kubectl (or oc) and helm, for verbs that a person runs: says what it does, and what to do when it fails. */
import { spawn, spawnSync } from 'node:child_process'
import { tool } from '../tools.ts'

/** Something that a person can mend: the cause, and the next command to type. */
export class Advice extends Error {
  constructor(cause: string, ...next: string[]) {
    super([cause, ...(next.length > 0 ? ['Next:', ...next.map((line) => `  ${line}`)] : [])].join('\n'))
    this.name = 'Advice'
  }
}

export interface Kube {
  /** What the cluster's client is called: kubectl, or oc where there is no kubectl. */
  readonly client: string
  readonly dryRun: boolean
  /** Standard output of a command that only reads. @throws Advice when it fails. */
  read(args: readonly string[]): string
  /** The same parsed; undefined where there is no such object or kind. */
  get<T>(args: readonly string[]): T | undefined
  /** Runs a command that changes something, after showing it; only shows it in a dry run. */
  change(args: readonly string[]): void
  /** `helm ARGS`, shown first; a dry run asks the API server what it would say. */
  helm(args: readonly string[]): void
  /** Runs a command with this terminal as its own; its exit status. */
  attached(args: readonly string[]): number
  /** A forwarded port of a Service on 127.0.0.1, until closed. */
  forward(options: {
    namespace: string
    service: string
    port: number
  }): Promise<{ port: number; close(): void }>
}

/** Whatever Helm 3 or 4 is on the PATH will do; else the pinned one is built. */
export function runHelm(args: readonly string[]): string {
  const helm = works('helm', ['version']) ? 'helm' : tool('helm')
  const { status, stdout, stderr } = spawnSync(helm, args, { encoding: 'utf8', maxBuffer: 2 ** 28 })
  if (status !== 0) throw new Advice(stderr.trim().replace(/^Error: /, ''))
  return stdout
}

const works = (command: string, args: readonly string[]) => spawnSync(command, args).status === 0

/** The client on the PATH. @throws Advice where there is none, or where it reaches no cluster. */
export function connect({ dryRun }: { dryRun: boolean }): Kube {
  const client = ['kubectl', 'oc'].find((name) => works(name, ['version', '--client']))
  if (!client)
    throw new Advice('Neither kubectl nor oc is on the PATH.', 'https://kubernetes.io/docs/tasks/tools/')
  const call = (args: readonly string[]) =>
    spawnSync(client, args, { encoding: 'utf8', maxBuffer: 2 ** 28, stdio: ['ignore', 'pipe', 'pipe'] })
  const reached = call(['version', '--request-timeout=10s'])
  if (reached.status !== 0)
    throw new Advice(
      `${client} reaches no cluster: ${reached.stderr.trim()}`,
      `${client} config get-contexts`,
      `${client} config use-context NAME`,
    )
  const show = (command: string, args: readonly string[]) =>
    process.stdout.write(`${dryRun ? '(dry run) ' : ''}$ ${[command, ...args].join(' ')}\n`)

  return {
    client,
    dryRun,
    read(args) {
      const { status, stdout, stderr } = call(args)
      if (status !== 0) throw new Advice(`${client} ${args.join(' ')} failed: ${stderr.trim()}`)
      return stdout
    },
    get<T>(args: readonly string[]) {
      const { status, stdout, stderr } = call(['get', ...args, '-o', 'json'])
      if (status === 0) return JSON.parse(stdout) as T
      if (/NotFound|not found|doesn't have a resource type/.test(stderr)) return undefined
      throw new Advice(`${client} get ${args.join(' ')} failed: ${stderr.trim()}`)
    },
    change(args) {
      show(client, args)
      if (dryRun) return
      const { status, stdout, stderr } = call(args)
      process.stdout.write(stdout)
      if (status !== 0) throw new Advice(`It failed: ${stderr.trim()}`)
    },
    helm(args) {
      show('helm', args)
      const stdout = runHelm([
        ...args,
        ...(dryRun ? [args[0] === 'uninstall' ? '--dry-run' : '--dry-run=server'] : []),
      ])
      const objects = stdout.match(/^kind: .*/gm) ?? []
      if (dryRun && objects.length > 0) process.stdout.write(`Helm would apply ${objects.length} objects.\n`)
    },
    attached: (args) => spawnSync(client, args, { stdio: 'inherit' }).status ?? 1,
    forward({ namespace, service, port }) {
      const child = spawn(client, ['-n', namespace, 'port-forward', `service/${service}`, `:${port}`], {
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      return new Promise((resolve, reject) => {
        let printed = ''
        const hear = (chunk: Buffer) => {
          printed += chunk
          const local = /127\.0\.0\.1:(\d+) ->/.exec(printed)?.[1]
          if (local) resolve({ port: Number(local), close: () => child.kill() })
        }
        child.stdout.on('data', hear)
        child.stderr.on('data', hear)
        child.once('close', () => reject(new Advice(`${client} port-forward ended: ${printed.trim()}`)))
      })
    },
  }
}
