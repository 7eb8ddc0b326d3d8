/**
 * A real Trino for tests: its published jars by Maven, in one process on free ports of 127.0.0.1. Maven Central has no
 * server archive; its plugins' jars lack the service file by which the server finds them, and its server class has no
 * `main`. Both are made here.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freePorts } from './ports.ts'

const VERSION = '483'
/** Trino demands this version or a newer one, with the incubating vector module, which a trimmed JRE may lack. */
const JAVA_VERSION = 25
const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'diffusers-mcp')
/** How long a start may take, in milliseconds: 10-26 s on two busy cores. */
const START_MS = 240_000
/** What docs/trino.md recommends. */
const RULES = new URL('../../docs/trino-rules.json', import.meta.url)
const SOURCES = fileURLToPath(new URL('./trino', import.meta.url))
const MAVEN_DEPENDENCY_PLUGIN = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1'

/** Artifact `trino-<key>` in `plugin/<key>`, and the class that its service file names. */
const PLUGINS = {
  tpch: 'io.trino.plugin.tpch.TpchPlugin',
  memory: 'io.trino.plugin.memory.MemoryPlugin',
} as const

const JVM_OPTIONS = [
  ...['-server', '-Xmx640M', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'],
  ...['-Dfile.encoding=UTF-8', '-Djdk.attach.allowAttachSelf=true', '--add-modules=jdk.incubator.vector'],
  ...['--sun-misc-unsafe-memory-access=allow', '--enable-native-access=ALL-UNNAMED'],
]

export const JWT_ISSUER = 'https://issuer.test'
const JWT_AUDIENCE = 'trino'

export interface QueryInfo {
  readonly id: string
  readonly state: string
  readonly error: string | null
  readonly query: string
}

/** A Trino with the catalogs `tpch` and `memory`. */
export interface TestTrino {
  /** Plain HTTP, where a user's name is all it takes. */
  readonly url: string
  /** Runs a statement as `admin`, past any client under test; returns its rows. @throws Error with Trino's message. */
  admin(sql: string): Promise<unknown[][]>
  /** What Trino's own list tells of the statements of this product whose text contains `text`, oldest first. */
  queries(text: string): Promise<QueryInfo[]>
  /** Ends what was started, and removes its folder. */
  stop(): Promise<void>
}

/** A server of the tests' own, which they may lock down and kill. */
export interface Trino extends TestTrino {
  /** HTTPS, where a password or a token is demanded. */
  readonly secureUrl: string
  /** The certificate of `secureUrl`, which signs itself, as a file. */
  readonly caFile: string
  /** The password of `reader` and `admin`. */
  readonly password: string
  /** A token for this user. */
  jwt(user: string): string
  /** Ends the process at once, as a crash would. */
  kill(): Promise<void>
  /** Starts it again on the same ports; what the memory catalog held is gone. Resolves when it answers. */
  restart(): Promise<void>
}

/** The Trino of TRINO_TEST_URL, which lets everybody in and do everything; absent: none. */
export function givenTrino(): TestTrino | undefined {
  const url = process.env.TRINO_TEST_URL?.replace(/\/+$/, '')
  return url ? { url, ...observe(url), stop: async () => {} } : undefined
}

/** What this machine lacks for a real Trino, as a sentence; undefined where it can run. Installs what apt can. */
export function missingForTrino(): string | undefined {
  const what = [
    ...(findJavaHome() === undefined ? [`a JDK ${JAVA_VERSION} (set JAVA_HOME)`] : []),
    ...(existsSync(homeOfTrino()) || findMaven() ? [] : ['Maven (mvn on the PATH)']),
  ]
  return what.length === 0 ? undefined : `${what.join(' and ')} is needed to run Trino ${VERSION}`
}

/**
 * Starts a server with the catalogs `tpch` and `memory`, and the users `admin` (may do everything) and `reader` (may
 * read, under docs/trino-rules.json). The first start on a machine installs it, progress on stderr.
 * @throws Error when it cannot be installed, ends, or does not answer in time.
 */
export async function startTrino(): Promise<Trino> {
  const java = findJavaHome()
  if (java === undefined) throw new Error(missingForTrino())
  const home = install(java)
  const folder = await mkdtemp(join(tmpdir(), 'trino-'))
  const etc = join(folder, 'etc')
  const [port, securePort] = (await freePorts(2)) as [number, number]
  const url = `http://127.0.0.1:${port}`
  const password = randomBytes(12).toString('base64url')
  const keys = generateKeyPairSync('rsa', { modulusLength: 2048 })
  mkdirSync(join(etc, 'catalog'), { recursive: true })
  const caFile = join(etc, 'server.pem')
  makeCertificate(java, etc, caFile)
  writeConfiguration(etc, {
    'catalog/tpch.properties': 'connector.name=tpch',
    'catalog/memory.properties': 'connector.name=memory',
    'log.properties': 'io.trino=WARN',
    'access-control.properties': 'access-control.name=file\nsecurity.config-file=etc/rules.json',
    'rules.json': readFileSync(RULES, 'utf8'),
    'password-authenticator.properties': `password-authenticator.name=one-password\none-password.value=${password}`,
    'jwt.pub': keys.publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    'config.properties': [
      'coordinator=true',
      'node-scheduler.include-coordinator=true',
      `http-server.http.port=${port}`,
      `discovery.uri=${url}`,
      'http-server.https.enabled=true',
      `http-server.https.port=${securePort}`,
      `http-server.https.keystore.path=${join(etc, 'server.p12')}`,
      'http-server.https.keystore.key=changeit',
      'http-server.authentication.type=PASSWORD,JWT',
      'http-server.authentication.allow-insecure-over-http=true',
      `http-server.authentication.jwt.key-file=${join(etc, 'jwt.pub')}`,
      `http-server.authentication.jwt.required-issuer=${JWT_ISSUER}`,
      `http-server.authentication.jwt.required-audience=${JWT_AUDIENCE}`,
      `internal-communication.shared-secret=${randomBytes(24).toString('hex')}`,
      'query.max-memory=256MB',
      'query.max-memory-per-node=200MB',
      'memory.heap-headroom-per-node=64MB',
    ].join('\n'),
  })

  const args = [
    ...JVM_OPTIONS,
    ...['-cp', join(home, 'lib/*'), `-Dtrino.version=${VERSION}`],
    ...['-Dnode.environment=test', '-Dnode.id=test-1', `-Dnode.data-dir=${join(folder, 'data')}`],
    ...['-Dnode.bind-ip=127.0.0.1', '-Dnode.internal-address=127.0.0.1'],
    ...[`-Dplugin.dir=${join(home, 'plugin')}`, '-Dcatalog.config-dir=etc/catalog'],
    ...[
      '-Dconfig=etc/config.properties',
      '-Dlog.levels-file=etc/log.properties',
      '-Dlog.enable-console=true',
    ],
    'StartTrino',
  ]
  let printed = ''
  let child: ChildProcess
  let ended: Promise<unknown>
  const launch = async () => {
    const process = spawn(join(java, 'bin/java'), args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [process.stdout, process.stderr])
      stream.on('data', (chunk) => {
        printed = `${printed}${chunk}`.slice(-4000)
      })
    child = process
    ended = new Promise((resolve) => process.once('close', resolve))
    const until = Date.now() + START_MS
    for (;;) {
      if (process.exitCode !== null || Date.now() > until) {
        process.kill('SIGKILL')
        throw new Error(`Trino does not start. Its last words:\n${printed}`)
      }
      const ready = await statement(url, 'SELECT 1').then(
        () => true,
        () => false,
      )
      if (ready) return
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
  const kill = async () => {
    child.kill('SIGKILL')
    await ended
  }
  // Also when the tests are interrupted.
  process.once('exit', () => child.kill('SIGKILL'))

  await launch()
  return {
    url,
    secureUrl: `https://127.0.0.1:${securePort}`,
    caFile,
    password,
    jwt: (user) => {
      const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
      const exp = Math.floor(Date.now() / 1000) + 3600
      const claims = { iss: JWT_ISSUER, aud: JWT_AUDIENCE, sub: user, exp }
      const signed = `${part({ alg: 'RS256', typ: 'JWT' })}.${part(claims)}`
      return `${signed}.${sign('sha256', Buffer.from(signed), keys.privateKey).toString('base64url')}`
    },
    ...observe(url),
    kill,
    restart: launch,
    async stop() {
      await kill()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

const observe = (url: string): Pick<TestTrino, 'admin' | 'queries'> => ({
  admin: (sql) => statement(url, sql),
  async queries(text) {
    const rows = await statement(
      url,
      `SELECT query_id, state, error_code, query FROM system.runtime.queries
       WHERE strpos(query, '${text.replaceAll("'", "''")}') > 0 AND source = 'diffusers-mcp' ORDER BY created`,
    )
    return rows.map(([id, state, error, query]) => ({ id, state, error, query }) as QueryInfo)
  },
})

/** The smallest client there is, so that no test trusts the one under test. @throws Error with Trino's message. */
async function statement(url: string, sql: string): Promise<unknown[][]> {
  const rows: unknown[][] = []
  const headers = { 'X-Trino-User': 'admin' }
  let response = await fetch(`${url}/v1/statement`, { method: 'POST', headers, body: sql })
  for (;;) {
    const page = (await response.json()) as {
      data?: unknown[][]
      nextUri?: string
      error?: { message: string }
    }
    if (page.error) throw new Error(page.error.message)
    rows.push(...(page.data ?? []))
    if (!page.nextUri) return rows
    response = await fetch(page.nextUri, { headers })
  }
}

function writeConfiguration(etc: string, files: Record<string, string>): void {
  for (const [name, content] of Object.entries(files)) writeFileSync(join(etc, name), `${content}\n`)
}

function makeCertificate(java: string, etc: string, caFile: string): void {
  const store = ['-alias', 'trino', '-keystore', join(etc, 'server.p12'), '-storepass', 'changeit']
  run(join(java, 'bin/keytool'), [
    ...['-genkeypair', ...store, '-storetype', 'PKCS12', '-keyalg', 'EC', '-validity', '7'],
    ...['-dname', 'CN=127.0.0.1', '-ext', 'san=ip:127.0.0.1'],
  ])
  run(join(java, 'bin/keytool'), ['-exportcert', '-rfc', ...store, '-file', caFile])
}

const homeOfTrino = () => join(CACHE, `trino-${VERSION}`)

/** Folder with Trino's `lib` and `plugin`, in the cache that all clones share. */
function install(java: string): string {
  const home = homeOfTrino()
  if (existsSync(home)) return home
  process.stderr.write(`Installing Trino ${VERSION} into ${home}, once (140 MB) ...\n`)
  // Under a name of its own until it is whole: two test runs may install at once.
  const partial = `${home}.${process.pid}`
  mkdirSync(partial, { recursive: true })
  copyDependencies(java, { artifact: 'trino-main', to: join(partial, 'lib') })
  for (const [name, type] of Object.entries(PLUGINS)) {
    const plugin = join(partial, 'plugin', name)
    copyDependencies(java, { artifact: `trino-${name}`, to: plugin })
    makeJar(java, { jar: join(plugin, 'services.jar'), service: type })
  }
  compile(java, join(partial, 'lib'), {
    source: 'StartTrino.java',
    jar: join(partial, 'lib/start-trino.jar'),
  })
  compile(java, join(partial, 'lib'), {
    source: 'OnePasswordPlugin.java',
    jar: join(partial, 'plugin/one-password/one-password.jar'),
    service: 'OnePasswordPlugin',
  })
  try {
    renameSync(partial, home)
  } catch (error) {
    rmSync(partial, { recursive: true })
    if (!existsSync(home)) throw error
  }
  return home
}

/** Copies what an artifact needs at run time into a folder, in the versions that Trino's own build uses. */
function copyDependencies(java: string, { artifact, to }: { artifact: string; to: string }): void {
  mkdirSync(to, { recursive: true })
  const pom = join(to, 'pom.xml')
  const coordinates = (id: string) =>
    `<groupId>io.trino</groupId><artifactId>${id}</artifactId><version>${VERSION}</version>`
  writeFileSync(
    pom,
    `<project><modelVersion>4.0.0</modelVersion>
      <groupId>test</groupId><artifactId>${artifact}</artifactId><version>1</version>
      <dependencyManagement><dependencies>
        <dependency>${coordinates('trino-root')}<type>pom</type><scope>import</scope></dependency>
      </dependencies></dependencyManagement>
      <dependencies><dependency>${coordinates(artifact)}</dependency></dependencies>
    </project>\n`,
  )
  run(
    'mvn',
    [
      ...['-B', '-q', '-f', pom, `${MAVEN_DEPENDENCY_PLUGIN}:copy-dependencies`],
      ...['-DincludeScope=runtime', `-DoutputDirectory=${to}`],
    ],
    { JAVA_HOME: java },
  )
}

/** Compiles one of the Java files beside this into a jar. */
function compile(
  java: string,
  lib: string,
  { source, ...target }: { source: string; jar: string; service?: string },
): void {
  const classes = `${target.jar}.classes`
  run(join(java, 'bin/javac'), ['-cp', join(lib, '*'), '-d', classes, join(SOURCES, source)])
  makeJar(java, { ...target, classes })
}

/** A jar of `classes`, a folder that it removes, with the service file of a plugin's class. */
function makeJar(java: string, options: { jar: string; classes?: string; service?: string }): void {
  const { jar, classes = `${jar}.classes`, service } = options
  mkdirSync(join(classes, 'META-INF/services'), { recursive: true })
  mkdirSync(dirname(jar), { recursive: true })
  if (service) writeFileSync(join(classes, 'META-INF/services/io.trino.spi.Plugin'), `${service}\n`)
  run(join(java, 'bin/jar'), ['cf', jar, '-C', classes, '.'])
  rmSync(classes, { recursive: true })
}

/** JAVA_HOME, or a JDK among those that Linux distributions install; undefined where none is new enough. */
function findJavaHome(): string | undefined {
  const installed = '/usr/lib/jvm'
  const candidates = [
    ...(process.env.JAVA_HOME ? [process.env.JAVA_HOME] : []),
    ...(existsSync(installed) ? readdirSync(installed).map((name) => join(installed, name)) : []),
  ]
  return candidates.find((home) => {
    const { stdout } = spawnSync(join(home, 'bin/java'), ['--list-modules'], { encoding: 'utf8' })
    const version = /^java\.base@(\d+)/m.exec(stdout ?? '')?.[1]
    const complete = /^jdk\.incubator\.vector@/m.test(stdout ?? '') && existsSync(join(home, 'bin/javac'))
    return complete && Number(version) >= JAVA_VERSION
  })
}

/** True where mvn can be run; as root on Debian it is installed when it is missing. */
function findMaven(): boolean {
  const found = () => spawnSync('mvn', ['--version'], { stdio: 'ignore' }).status === 0
  if (found()) return true
  if (process.getuid?.() !== 0) return false
  const apt = (...args: string[]) => spawnSync('apt-get', args, { stdio: ['ignore', 2, 2] })
  apt('update', '--quiet')
  apt('install', '--yes', '--quiet', '--no-install-recommends', 'maven')
  return found()
}

function run(command: string, args: readonly string[], env: Record<string, string> = {}): void {
  const { status, error } = spawnSync(command, args, {
    stdio: ['ignore', 2, 2],
    env: { ...process.env, ...env },
  })
  if (status !== 0)
    throw new Error(`${command} ${args.slice(0, 3).join(' ')} failed${error ? `: ${error.message}` : ''}`)
}
