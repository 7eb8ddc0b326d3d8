/**
 * Environment -> Config, in one place. Every variable stands in `SETTINGS` with its meaning, so that the checks,
 * `--help` and docs/configuration.md cannot disagree.
 */
import { readFileSync } from 'node:fs'
import { isIPv4, isIPv6 } from 'node:net'
import { z } from 'zod'
import type { AuthSettings } from './auth/authenticate.ts'
import { type Algorithm, ASYMMETRIC, type JwtSettings, SYMMETRIC } from './auth/jwt.ts'
import { fileSecret, fixedSecret, type Secret } from './auth/secret.ts'
import { parseTokens, TOKEN_PATTERN } from './auth/tokens.ts'
import { type TargetDefinition, targetDefinition } from './runtimes/targets.ts'

interface Kind<T> {
  /** What may be written, as a phrase. */
  readonly allowed: string
  readonly schema: z.ZodType<T, string>
}

interface Setting<T> extends Kind<T> {
  readonly doc: string
  /** The default as one would write it. Absent: the variable is optional. */
  readonly default?: string
  readonly secret?: true
}

const wholeNumber = (min: number, max: number): Kind<number> => ({
  allowed: `a whole number ${min}-${max}`,
  schema: z.string().regex(/^\d+$/).transform(Number).pipe(z.number().min(min).max(max)),
})
const listOf = <const T extends string>(...values: T[]): Kind<readonly T[]> => ({
  allowed: `some of ${values.join(', ')}, separated by commas`,
  schema: z
    .string()
    .transform((value) => value.split(',').map((part) => part.trim()))
    .pipe(z.array(z.enum(values))) as unknown as z.ZodType<readonly T[], string>,
})
const choice = <const T extends string>(...values: T[]): Kind<T> => ({
  allowed: values.join(' | '),
  schema: z.enum(values) as unknown as z.ZodType<T, string>,
})
const text = (allowed: string, pattern = /^[^\0]+$/): Kind<string> => ({
  allowed,
  schema: z.string().regex(pattern),
})
const httpUrl: Kind<string> = {
  allowed: 'an http:// or https:// URL without query or fragment',
  schema: z
    .url({ protocol: /^https?$/ })
    .refine((value) => !/[?#]/.test(value) && new URL(value).username === '')
    .transform((value) => value.replace(/\/+$/, '')),
}
const valkeyUrl: Kind<string> = {
  allowed: 'a redis:// or rediss:// (TLS) URL such as redis://:password@valkey:6379/0',
  schema: z.url({ protocol: /^rediss?$/ }),
}
const list = (allowed: string, item: RegExp): Kind<readonly string[]> => ({
  allowed,
  schema: z
    .string()
    .transform((value) => value.split(',').map((part) => part.trim().toLowerCase()))
    .pipe(z.array(z.string().regex(item)).min(1)),
})

function setting<T>(
  kind: Kind<T>,
  doc: string,
  options: { default: string },
): Setting<T> & { default: string }
function setting<T>(kind: Kind<T>, doc: string, options?: { secret?: true }): Setting<T>
function setting<T>(
  kind: Kind<T>,
  doc: string,
  options: { default?: string; secret?: true } = {},
): Setting<T> {
  return { ...kind, doc, ...options }
}

const MINUTE_MS = 60_000
const DAY_S = 86_400
const GIB = 2 ** 30

/** Every environment variable of the server. */
export const SETTINGS = {
  HOST: setting(
    text('an address or a name', /^[A-Za-z0-9.:_-]+$/),
    'Address to listen on. Anything but loopback needs authentication, or AUTH=none.',
    { default: '127.0.0.1' },
  ),
  PORT: setting(wholeNumber(0, 65_535), 'Port to listen on; 0 takes a free one.', { default: '8080' }),
  METRICS_PORT: setting(
    wholeNumber(0, 65_535),
    'A port of its own for /metrics; absent: on PORT. 0 takes a free one.',
  ),
  PUBLIC_URL: setting(
    httpUrl,
    'Where clients reach this server, a path prefix included: the only source of absolute links. ' +
      'Absent: http://HOST:PORT on loopback, else links are paths.',
  ),
  ALLOWED_HOSTS: setting(
    list('host names, separated by commas', /^[a-z0-9._[\]:-]+$/),
    "Further Host headers to accept. On loopback: besides loopback's names and PUBLIC_URL's host. " +
      'Elsewhere: absent means any.',
  ),
  ALLOWED_ORIGINS: setting(
    list('origins (https://app.example.com), separated by commas', /^https?:\/\/[a-z0-9.:[\]-]+$/),
    "Browser origins to accept besides PUBLIC_URL's, and loopback's where the server listens on loopback.",
  ),
  AUTH: setting(
    choice('auto', 'none'),
    'auto: a bearer token is demanded when MCP_AUTH_TOKEN, AUTH_TOKENS or AUTH_JWT_… is set, and a server that others can ' +
      'reach refuses to start without one of them. none: whoever reaches the port may use it.',
    { default: 'auto' },
  ),
  MCP_AUTH_TOKEN: setting(
    text('at least 16 printable characters without spaces', TOKEN_PATTERN),
    'A bearer token with all scopes.',
    { secret: true },
  ),
  AUTH_TOKENS: setting(text('a JSON array, see "Tokens" below'), 'Named bearer tokens with scopes.', {
    secret: true,
  }),
  AUTH_JWT_JWKS_URL: setting(
    httpUrl,
    'Where the issuer of JWT access tokens publishes its keys. Excludes AUTH_JWT_SECRET.',
  ),
  AUTH_JWT_SECRET: setting(
    text(
      'one or two secrets of at least 32 characters, separated by a comma',
      /^[^\s,]{32,512}(,[^\s,]{32,512})?$/,
    ),
    'The secret that JWT access tokens are signed with; for rotation write "new,old".',
    { secret: true },
  ),
  AUTH_JWT_ISSUER: setting(
    text('the exact text of the claim "iss"', /^[\x21-\x7b\x7d\x7e]{1,500}$/),
    'Who issues JWT access tokens. Needed with AUTH_JWT_JWKS_URL and AUTH_JWT_SECRET.',
  ),
  AUTH_JWT_AUDIENCE: setting(
    text('the exact text of one "aud"', /^[\x21-\x7e]{1,500}$/),
    'Whom JWT access tokens must be meant for; for MCP hosts PUBLIC_URL and "/mcp". ' +
      'Needed with AUTH_JWT_JWKS_URL and AUTH_JWT_SECRET.',
  ),
  AUTH_JWT_ALGORITHMS: setting(
    listOf(...ASYMMETRIC, ...SYMMETRIC),
    'Signatures that are accepted. Absent: HS256 with AUTH_JWT_SECRET, else all that have a public key; ' +
      'the HS ones only with AUTH_JWT_SECRET, the others only without.',
  ),
  RATE_LIMIT_PER_MINUTE: setting(
    wholeNumber(0, 10_000_000),
    'Requests and messages that one caller may send per minute to one replica, as many of them at once; 0: any. ' +
      "Without authentication, and for failed ones, per network of the connection's peer.",
    { default: '600' },
  ),
  MAX_BODY_BYTES: setting(wholeNumber(1024, 2 ** 26), 'Largest request body, in bytes.', {
    default: '65536',
  }),
  WS_PING_MS: setting(
    wholeNumber(1000, DAY_S * 1000),
    'How often a WebSocket is pinged, in milliseconds; a peer that has not answered by the next one is dropped.',
    { default: '30000' },
  ),
  WS_IDLE_MS: setting(
    wholeNumber(1000, DAY_S * 1000),
    'A WebSocket without a message or a call for this long is closed (1001), in milliseconds.',
    { default: '1800000' },
  ),
  WS_MAX_MESSAGE_BYTES: setting(
    wholeNumber(1024, 2 ** 26),
    'Largest message over a WebSocket, in bytes; a larger one closes it (1009).',
    { default: '65536' },
  ),
  WS_MAX_CALLS: setting(wholeNumber(1, 10_000), 'Calls in flight per WebSocket.', { default: '16' }),
  WS_MAX_BUFFERED_BYTES: setting(
    wholeNumber(65_536, 2 ** 30),
    'What one WebSocket that reads slowly can make the server hold, in bytes; beyond it is closed (1013).',
    { default: '16777216' },
  ),
  LOG_LEVEL: setting(
    choice('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'),
    'How much is logged (JSON lines). Prompts appear at debug only.',
    { default: 'info' },
  ),
  NODE_ENV: setting(
    text('a name', /^[A-Za-z0-9_-]{1,40}$/),
    'Read by libraries; the server itself behaves the same under every value.',
  ),

  RUNTIMES: setting(
    text('a JSON array of targets, see "Targets" below'),
    'The targets; the first one is the default. Excludes DIFFUSERS_RUNTIME_URL.',
  ),
  RUNTIMES_FILE: setting(text('a path'), 'A file that holds RUNTIMES; read once, at start.'),
  DIFFUSERS_RUNTIME_URL: setting(
    httpUrl,
    'One KServe diffusion runtime, without RUNTIMES. With neither the server draws with a small model of its own.',
  ),
  DIFFUSERS_MODEL_ID: setting(
    text('a model name', /^[^\0/?#]{1,200}$/),
    "The model's name in that runtime's URL.",
    {
      default: 'model',
    },
  ),
  DIFFUSERS_RUNTIME_SERVICE: setting(
    text('a Service name', /^[a-z0-9.-]{1,253}$/),
    "The runtime's Kubernetes Service: names the target, shown in diagnostics.",
  ),
  DIFFUSERS_RUNTIME_NAMESPACE: setting(
    text('a namespace', /^[a-z0-9-]{1,63}$/),
    "The runtime's Kubernetes namespace, shown in diagnostics.",
  ),
  DIFFUSERS_RUNTIME_CONCURRENCY: setting(
    wholeNumber(1, 1000),
    'Generations at once on that runtime: its replicas x slots per replica.',
    { default: '1' },
  ),
  DIFFUSERS_RUNTIME_QUEUE: setting(wholeNumber(0, 100_000), 'Generations that may wait for that runtime.', {
    default: '16',
  }),

  RUNTIME_WAIT_MS: setting(
    wholeNumber(1000, 60 * MINUTE_MS),
    'How long main.wait.ts, which the chart runs before the server, waits for all targets together, in milliseconds.',
    { default: '300000' },
  ),
  WAIT_BUDGET_MS: setting(
    wholeNumber(0, 60 * MINUTE_MS),
    'How long one call waits for its picture before it gets a handle, in milliseconds. Big hosts cut calls at 45 s.',
    { default: '40000' },
  ),
  JOB_DEADLINE_MS: setting(
    wholeNumber(1000, 24 * 60 * MINUTE_MS),
    'When a picture stops being worth making, in milliseconds after it was asked for.',
    { default: '900000' },
  ),
  ORPHAN_GRACE_MS: setting(
    wholeNumber(0, 10 * MINUTE_MS),
    'How long a generation whose caller left goes on, so that a retry can take it over, in milliseconds. ' +
      'Without authentication it ends at once.',
    { default: '10000' },
  ),
  DRAIN_DELAY_MS: setting(
    wholeNumber(0, 10 * MINUTE_MS),
    'Pause between SIGTERM and refusing new work, so that load balancers notice, in milliseconds.',
    { default: '0' },
  ),
  DRAIN_MS: setting(
    wholeNumber(0, 60 * MINUTE_MS),
    'How long a stopping server finishes what it accepted, in milliseconds.',
    { default: '60000' },
  ),

  JOBS_BACKEND: setting(
    choice('memory', 'valkey'),
    'Where jobs are kept. memory: they live while the process lives. valkey: any number of servers behave as one, and ' +
      'accepted jobs survive the death of any of them.',
    { default: 'memory' },
  ),
  VALKEY_URL: setting(
    valkeyUrl,
    'The Valkey or Redis server of jobs and pictures. It needs appendonly yes and maxmemory-policy noeviction.',
    { secret: true },
  ),
  JOB_LOCK_MS: setting(
    wholeNumber(1000, 10 * MINUTE_MS),
    'A generation whose server was silent for this long is begun again by another one, within twice this time, in ' +
      'milliseconds (valkey).',
    { default: '6000' },
  ),
  JOB_MAX_RERUNS: setting(
    wholeNumber(0, 1_000_000),
    'How often a generation is begun again after its server died, before the job fails (valkey).',
    { default: '3' },
  ),

  IMAGES_BACKEND: setting(
    choice('memory', 'filesystem', 's3', 'valkey'),
    'Where finished pictures are kept. memory: gone with the process. s3: shared by all replicas. valkey: the same, for ' +
      'small clusters.',
    { default: 'memory' },
  ),
  IMAGES_DIR: setting(text('a path'), 'Folder of the filesystem backend.', { default: '.images' }),
  IMAGES_S3_ENDPOINT: setting(httpUrl, 'An S3-compatible store, addressed path-style (s3).'),
  IMAGES_S3_BUCKET: setting(
    text('a bucket name', /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/),
    'The bucket for pictures; it must exist (s3).',
  ),
  IMAGES_S3_REGION: setting(
    text('a region', /^[a-z0-9-]{1,40}$/),
    'The region that requests are signed for (s3).',
    {
      default: 'us-east-1',
    },
  ),
  IMAGES_S3_PREFIX: setting(
    text(
      'a path without slashes at its ends',
      /^(?!.*(^|\/)\.\.?(\/|$))[A-Za-z0-9_.-]+(\/[A-Za-z0-9_.-]+)*$/,
    ),
    'Where in the bucket the pictures lie (s3).',
  ),
  IMAGES_S3_ACCESS_KEY: setting(text('an access key', /^\S{1,256}$/), 'The access key (s3).', {
    secret: true,
  }),
  IMAGES_S3_SECRET_KEY: setting(text('a secret key', /^\S{1,256}$/), 'The secret key (s3).', {
    secret: true,
  }),
  IMAGES_MAX_BYTES: setting(
    wholeNumber(2 ** 20, 1024 * GIB),
    'Bound of the store in bytes; the oldest pictures go first (memory, filesystem).',
    { default: String(GIB / 4) },
  ),
  IMAGES_VALKEY_MAX_BYTES: setting(
    wholeNumber(2 ** 20, 1024 * GIB),
    'Bound of the pictures in bytes; the oldest go first. The maxmemory of the server has to be a quarter larger, and ' +
      '64 MiB for jobs (valkey).',
    { default: String(GIB / 4) },
  ),
  IMAGE_TTL_SECONDS: setting(wholeNumber(1, 30 * DAY_S), 'How long a picture is kept, in seconds.', {
    default: '3600',
  }),
  IMAGE_URL_KEY: setting(
    text(
      'one or two keys of at least 32 characters, separated by a comma',
      /^[^\s,]{32,512}(,[^\s,]{32,512})?$/,
    ),
    'Signs links to pictures; for rotation write "new,old". Absent: a random key, so links end with the process.',
    { secret: true },
  ),
  INLINE_IMAGE_MAX_BYTES: setting(
    wholeNumber(0, 2 ** 26),
    'Larger pictures are shown to MCP clients as a WebP preview and a link, in bytes. Hosts allow results of 1 MB.',
    { default: '716800' },
  ),

  TRINO_URL: setting(
    httpUrl,
    'A Trino cluster to query directly, by the address that it knows itself by. Absent: no such tools, or through XDP only.',
  ),
  TRINO_USER: setting(
    text('a user name', /^[\x21-\x7e]{1,200}$/),
    "Trino's name for this server; give it read-only rights (docs/trino.md). Needed with TRINO_URL, unless TRINO_JWT says it.",
  ),
  TRINO_PASSWORD: setting(text('a password', /^[^\0\r\n]{1,1000}$/), "That user's password (https only).", {
    secret: true,
  }),
  TRINO_JWT: setting(
    text('a token without spaces', /^[\x21-\x7e]{1,8000}$/),
    'A token instead of a password (https only).',
    { secret: true },
  ),
  TRINO_CA_FILE: setting(
    text('a path'),
    "Certificates (PEM) to trust for TRINO_URL instead of the engine's own.",
  ),
  TRINO_QUERY_TIMEOUT_MS: setting(
    wholeNumber(100, 60 * MINUTE_MS),
    'How long a call to a Trino tool may take, directly or through XDP, in milliseconds. Big hosts cut calls at 45 s.',
    { default: '40000' },
  ),
  TRINO_MAX_ROWS: setting(wholeNumber(1, 100_000), 'Rows that a Trino tool answers at most.', {
    default: '1000',
  }),
  TRINO_MAX_BYTES: setting(
    wholeNumber(1024, 2 ** 26),
    'Bytes of rows, as JSON, that a Trino tool answers at most.',
    { default: '262144' },
  ),
  TRINO_ALLOW_WRITES: setting(
    choice('false', 'true'),
    'false: trino_execute_query runs only what Trino itself says to be reading. true: whatever the user may do in Trino.',
    { default: 'false' },
  ),

  XDP_BASE_URL: setting(
    httpUrl,
    "Acceldata XDP's control plane, as https://xdp.example.com/xdp-cp-service/api. Absent: no XDP tools.",
  ),
  XDP_ACCESS_KEY: setting(text('an access key', /^[\x21-\x7e]{1,500}$/), 'The access key (XDP).', {
    secret: true,
  }),
  XDP_SECRET_KEY: setting(text('a secret key', /^[\x21-\x7e]{1,500}$/), 'The secret key (XDP).', {
    secret: true,
  }),
  XDP_TIMEOUT_MS: setting(
    wholeNumber(100, 10 * MINUTE_MS),
    'How long one request to XDP may take, in milliseconds.',
    { default: '30000' },
  ),
} satisfies Record<string, Setting<unknown>>

type Settings = typeof SETTINGS
type SettingName = keyof Settings
type Raw = {
  [Name in SettingName]:
    | z.output<Settings[Name]['schema']>
    | (Settings[Name] extends { default: string } ? never : undefined)
}

/** Everything the server can be told, checked. */
export interface Config {
  readonly host: string
  readonly port: number
  readonly metricsPort: number | undefined
  /** As configured; absent: derived from the address on loopback. */
  readonly publicUrl: string | undefined
  readonly loopback: boolean
  readonly allowedHosts: readonly string[] | undefined
  readonly allowedOrigins: readonly string[]
  /** Empty: nobody is asked who they are. */
  readonly auth: AuthSettings
  /** 0: no limit. */
  readonly rateLimitPerMinute: number
  readonly maxBodyBytes: number
  readonly webSocket: {
    readonly pingMs: number
    readonly idleMs: number
    readonly maxMessageBytes: number
    readonly maxCalls: number
    readonly maxBufferedBytes: number
  }
  readonly logLevel: Raw['LOG_LEVEL']
  readonly targets: readonly TargetDefinition[]
  /** Where the single runtime lives in Kubernetes, for diagnostics. */
  readonly runtimeService: string | undefined
  readonly runtimeWaitMs: number
  readonly waitBudgetMs: number
  readonly jobDeadlineMs: number
  readonly orphanGraceMs: number
  readonly drainDelayMs: number
  readonly drainMs: number
  /** Present where a backend is valkey. */
  readonly valkeyUrl: Secret | undefined
  readonly jobs: {
    readonly backend: Raw['JOBS_BACKEND']
    readonly lockMs: number
    readonly maxReruns: number
  }
  readonly images: {
    readonly backend: Raw['IMAGES_BACKEND']
    readonly directory: string
    readonly maxBytes: number
    readonly valkeyMaxBytes: number
    readonly ttlSeconds: number
    readonly urlKey: Secret | undefined
    readonly inlineMaxBytes: number
    /** Present where the backend is s3. */
    readonly s3: S3Settings | undefined
  }
  /** Bounds of every Trino tool, whichever way it goes. */
  readonly trino: {
    readonly cluster: TrinoSettings | undefined
    readonly timeoutMs: number
    readonly maxRows: number
    readonly maxBytes: number
    readonly allowWrites: boolean
  }
  readonly xdp: XdpSettings | undefined
}

/** Where a Trino cluster is, and how to get in. */
export interface TrinoSettings {
  readonly url: string
  readonly user: string | undefined
  readonly password: Secret | undefined
  readonly jwt: Secret | undefined
  readonly caFile: string | undefined
}

/** Where XDP's control plane is, and how to get in. */
export interface XdpSettings {
  readonly baseUrl: string
  readonly accessKey: Secret
  readonly secretKey: Secret
  readonly timeoutMs: number
}

/** Where an S3-compatible store is, and how to get in. */
export interface S3Settings {
  readonly endpoint: string
  readonly bucket: string
  readonly region: string
  readonly prefix: string | undefined
  readonly accessKey: Secret
  readonly secretKey: Secret
}

/** One thing that is wrong with the environment. */
export interface ConfigProblem {
  readonly variable: string
  /** Quoted value; absent for secrets and for variables that are missing. */
  readonly got?: string
  readonly allowed: string
}

/** The environment is wrong: every problem at once. */
export class ConfigError extends Error {
  readonly problems: readonly ConfigProblem[]

  constructor(problems: readonly ConfigProblem[]) {
    const lines = problems.map(
      ({ variable, got, allowed }) => `  ${variable}: ${got === undefined ? '' : `got ${got}; `}${allowed}`,
    )
    super(
      `The configuration has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n${lines.join('\n')}`,
    )
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/**
 * Reads the whole configuration.
 * @throws ConfigError that lists every wrong variable with what it got and what is allowed; secrets are not shown.
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const problems: ConfigProblem[] = []
  const secrets: Partial<Record<SettingName, Secret>> = {}
  const raw: Record<string, unknown> = {}

  for (const [name, spec] of Object.entries(SETTINGS) as [SettingName, Setting<unknown>][]) {
    const file = spec.secret ? env[`${name}_FILE`] : undefined
    const given = env[name] === '' ? undefined : env[name]
    if (file && given !== undefined) {
      problems.push({ variable: name, allowed: `set either ${name} or ${name}_FILE, not both` })
      continue
    }
    let secret: Secret | undefined
    if (file) {
      try {
        secret = fileSecret(file)
      } catch (error) {
        problems.push({
          variable: `${name}_FILE`,
          got: JSON.stringify(file),
          allowed: `must be a readable file: ${reason(error)}`,
        })
        continue
      }
    } else if (spec.secret && given !== undefined) secret = fixedSecret(given)
    const value = secret?.read() ?? given ?? spec.default
    if (value === undefined) continue
    const parsed = spec.schema.safeParse(value)
    if (parsed.success) raw[name] = parsed.data
    else
      problems.push({
        variable: file ? `${name}_FILE` : name,
        ...(spec.secret ? {} : { got: JSON.stringify(value) }),
        allowed: `allowed: ${spec.allowed}`,
      })
    if (secret) secrets[name] = secret
  }

  const value = raw as Raw
  const loopback = value.HOST !== undefined && isLoopback(value.HOST)
  const auth = readAuth(value, secrets, problems)
  // Also where a means is set to something wrong: that is a problem of its own.
  const means = Object.keys(env).filter(
    (name) => /^(MCP_AUTH_TOKEN|AUTH_TOKENS|AUTH_JWT_)/.test(name) && env[name],
  )
  if (value.AUTH === 'none' && means.length > 0)
    problems.push({
      variable: 'AUTH',
      got: '"none"',
      allowed: `contradicts ${means.join(', ')}: remove one of the two`,
    })
  if (value.HOST !== undefined && !loopback && value.AUTH === 'auto' && means.length === 0)
    problems.push({
      variable: 'HOST',
      got: JSON.stringify(value.HOST),
      allowed:
        'others can reach this address: set MCP_AUTH_TOKEN, AUTH_TOKENS or AUTH_JWT_…, or say AUTH=none if that is meant',
    })
  const targets = readTargets(value, problems)
  const s3 = value.IMAGES_BACKEND === 's3' ? readS3(value, secrets, problems) : undefined
  checkShared(value, secrets, problems)
  const cluster = readTrino(value, secrets, problems)
  const xdp = readXdp(value, secrets, problems)
  if (problems.length > 0) throw new ConfigError(problems)

  return {
    host: value.HOST,
    port: value.PORT,
    metricsPort: value.METRICS_PORT,
    publicUrl: value.PUBLIC_URL,
    loopback,
    allowedHosts: value.ALLOWED_HOSTS,
    allowedOrigins: value.ALLOWED_ORIGINS ?? [],
    auth,
    rateLimitPerMinute: value.RATE_LIMIT_PER_MINUTE,
    maxBodyBytes: value.MAX_BODY_BYTES,
    webSocket: {
      pingMs: value.WS_PING_MS,
      idleMs: value.WS_IDLE_MS,
      maxMessageBytes: value.WS_MAX_MESSAGE_BYTES,
      maxCalls: value.WS_MAX_CALLS,
      maxBufferedBytes: value.WS_MAX_BUFFERED_BYTES,
    },
    logLevel: value.LOG_LEVEL,
    targets,
    runtimeService: value.DIFFUSERS_RUNTIME_SERVICE
      ? `${value.DIFFUSERS_RUNTIME_SERVICE}${value.DIFFUSERS_RUNTIME_NAMESPACE ? `.${value.DIFFUSERS_RUNTIME_NAMESPACE}` : ''}`
      : undefined,
    runtimeWaitMs: value.RUNTIME_WAIT_MS,
    waitBudgetMs: value.WAIT_BUDGET_MS,
    jobDeadlineMs: value.JOB_DEADLINE_MS,
    orphanGraceMs: value.ORPHAN_GRACE_MS,
    drainDelayMs: value.DRAIN_DELAY_MS,
    drainMs: value.DRAIN_MS,
    valkeyUrl: secrets.VALKEY_URL,
    jobs: { backend: value.JOBS_BACKEND, lockMs: value.JOB_LOCK_MS, maxReruns: value.JOB_MAX_RERUNS },
    images: {
      backend: value.IMAGES_BACKEND,
      directory: value.IMAGES_DIR,
      maxBytes: value.IMAGES_MAX_BYTES,
      valkeyMaxBytes: value.IMAGES_VALKEY_MAX_BYTES,
      ttlSeconds: value.IMAGE_TTL_SECONDS,
      urlKey: secrets.IMAGE_URL_KEY,
      inlineMaxBytes: value.INLINE_IMAGE_MAX_BYTES,
      s3,
    },
    trino: {
      cluster,
      timeoutMs: value.TRINO_QUERY_TIMEOUT_MS,
      maxRows: value.TRINO_MAX_ROWS,
      maxBytes: value.TRINO_MAX_BYTES,
      allowWrites: value.TRINO_ALLOW_WRITES === 'true',
    },
    xdp,
  }
}

/** What jobs and pictures in Valkey need; what is missing, or would answer for half of the pictures only, is named. */
function checkShared(
  value: Raw,
  secrets: Partial<Record<SettingName, Secret>>,
  problems: ConfigProblem[],
): void {
  const missing = !secrets.VALKEY_URL && !problems.some(({ variable }) => variable.startsWith('VALKEY_URL'))
  const user = (['JOBS_BACKEND', 'IMAGES_BACKEND'] as const).find((name) => value[name] === 'valkey')
  if (user && missing) problems.push({ variable: 'VALKEY_URL', allowed: `is needed with ${user}=valkey` })
  if (value.JOBS_BACKEND === 'valkey' && value.IMAGES_BACKEND === 'memory')
    problems.push({
      variable: 'IMAGES_BACKEND',
      got: '"memory"',
      allowed:
        'servers that share their jobs must share their pictures: set s3 or valkey, or filesystem on one machine',
    })
  if (value.JOBS_BACKEND === 'valkey' && !secrets.IMAGE_URL_KEY)
    problems.push({
      variable: 'IMAGE_URL_KEY',
      allowed:
        'is needed with JOBS_BACKEND=valkey: a link signed by one server has to be valid at the others',
    })
}

/** The means of authentication; what contradicts itself or is missing is named. */
function readAuth(
  value: Raw,
  secrets: Partial<Record<SettingName, Secret>>,
  problems: ConfigProblem[],
): AuthSettings {
  if (secrets.AUTH_TOKENS)
    try {
      parseTokens(secrets.AUTH_TOKENS.read())
    } catch (error) {
      problems.push({ variable: 'AUTH_TOKENS', allowed: `must be a JSON array of tokens: ${reason(error)}` })
    }
  return {
    token: secrets.MCP_AUTH_TOKEN,
    tokens: secrets.AUTH_TOKENS,
    jwt: readJwt(value, secrets, problems),
  }
}

function readJwt(
  value: Raw,
  secrets: Partial<Record<SettingName, Secret>>,
  problems: ConfigProblem[],
): JwtSettings | undefined {
  const jwksUrl = value.AUTH_JWT_JWKS_URL
  const secret = secrets.AUTH_JWT_SECRET
  const { AUTH_JWT_ISSUER: issuer, AUTH_JWT_AUDIENCE: audience, AUTH_JWT_ALGORITHMS: chosen } = value
  if (!jwksUrl && !secret && !issuer && !audience && !chosen) return undefined
  const complain = (variable: SettingName, allowed: string) => {
    if (!problems.some((problem) => problem.variable.startsWith(variable)))
      problems.push({ variable, allowed })
  }
  if (jwksUrl && secret) complain('AUTH_JWT_SECRET', 'contradicts AUTH_JWT_JWKS_URL: remove one of the two')
  if (!jwksUrl && !secret)
    complain('AUTH_JWT_JWKS_URL', 'or AUTH_JWT_SECRET is needed: JWTs cannot be checked without keys')
  if (!issuer) complain('AUTH_JWT_ISSUER', 'is needed: whose JWTs are accepted?')
  if (!audience)
    complain('AUTH_JWT_AUDIENCE', 'is needed: else tokens meant for other servers would be accepted')
  const family: readonly Algorithm[] = secret ? SYMMETRIC : ASYMMETRIC
  if (chosen?.some((algorithm) => !family.includes(algorithm)))
    complain(
      'AUTH_JWT_ALGORITHMS',
      `allowed with ${secret ? 'AUTH_JWT_SECRET' : 'AUTH_JWT_JWKS_URL'}: ${family.join(', ')}`,
    )
  const keys = secret ? { secret } : jwksUrl ? { jwksUrl } : undefined
  if (!keys || !issuer || !audience) return undefined
  return { keys, issuer, audience, algorithms: chosen ?? (secret ? ['HS256'] : ASYMMETRIC) }
}

/** The cluster of TRINO_URL; what is missing, useless or unsafe is named. */
function readTrino(
  value: Raw,
  secrets: Partial<Record<SettingName, Secret>>,
  problems: ConfigProblem[],
): TrinoSettings | undefined {
  const { TRINO_URL: url, TRINO_USER: user, TRINO_CA_FILE: caFile } = value
  const { TRINO_PASSWORD: password, TRINO_JWT: jwt } = secrets
  const wrong = (variable: SettingName, allowed: string) => problems.push({ variable, allowed })
  if (!url) {
    const useless = { TRINO_USER: user, TRINO_PASSWORD: password, TRINO_JWT: jwt, TRINO_CA_FILE: caFile }
    for (const [name, given] of Object.entries(useless))
      if (given) wrong(name as SettingName, 'is of no use without TRINO_URL')
    return undefined
  }
  if (!user && !jwt) wrong('TRINO_USER', 'is needed with TRINO_URL, unless TRINO_JWT is set')
  if (password && !user) wrong('TRINO_USER', 'is needed with TRINO_PASSWORD')
  if (password && jwt) wrong('TRINO_PASSWORD', 'contradicts TRINO_JWT: remove one of the two')
  if ((password || jwt) && !url.startsWith('https:'))
    wrong(
      'TRINO_URL',
      'must be https:// with TRINO_PASSWORD or TRINO_JWT, which everybody on the way could read',
    )
  if (caFile)
    try {
      readFileSync(caFile)
    } catch (error) {
      wrong('TRINO_CA_FILE', `must be a readable file: ${reason(error)}`)
    }
  return { url, user, password, jwt, caFile }
}

/** XDP's control plane; what is missing is named. */
function readXdp(
  value: Raw,
  secrets: Partial<Record<SettingName, Secret>>,
  problems: ConfigProblem[],
): XdpSettings | undefined {
  const { XDP_BASE_URL: baseUrl, XDP_TIMEOUT_MS: timeoutMs } = value
  const { XDP_ACCESS_KEY: accessKey, XDP_SECRET_KEY: secretKey } = secrets
  if (baseUrl && accessKey && secretKey) return { baseUrl, accessKey, secretKey, timeoutMs }
  const given = { XDP_BASE_URL: baseUrl, XDP_ACCESS_KEY: accessKey, XDP_SECRET_KEY: secretKey }
  if (Object.values(given).every((one) => one === undefined)) return undefined
  for (const [variable, one] of Object.entries(given))
    if (!one && !problems.some((problem) => problem.variable.startsWith(variable)))
      problems.push({ variable, allowed: 'is needed too: XDP takes an address and two keys' })
  return undefined
}

/** What IMAGES_BACKEND=s3 needs; what is missing is named. */
function readS3(
  value: Raw,
  secrets: Partial<Record<SettingName, Secret>>,
  problems: ConfigProblem[],
): S3Settings | undefined {
  const endpoint = value.IMAGES_S3_ENDPOINT
  const bucket = value.IMAGES_S3_BUCKET
  const accessKey = secrets.IMAGES_S3_ACCESS_KEY
  const secretKey = secrets.IMAGES_S3_SECRET_KEY
  if (endpoint && bucket && accessKey && secretKey)
    return {
      endpoint,
      bucket,
      accessKey,
      secretKey,
      region: value.IMAGES_S3_REGION,
      prefix: value.IMAGES_S3_PREFIX,
    }
  const needed = {
    IMAGES_S3_ENDPOINT: endpoint,
    IMAGES_S3_BUCKET: bucket,
    IMAGES_S3_ACCESS_KEY: accessKey,
    IMAGES_S3_SECRET_KEY: secretKey,
  }
  for (const [variable, given] of Object.entries(needed))
    if (!given && !problems.some((problem) => problem.variable.startsWith(variable)))
      problems.push({ variable, allowed: 'is needed with IMAGES_BACKEND=s3' })
  return undefined
}

/** RUNTIMES, or the single runtime of the DIFFUSERS_ variables, or the model that is shipped. */
function readTargets(value: Raw, problems: ConfigProblem[]): readonly TargetDefinition[] {
  const variable = value.RUNTIMES_FILE ? 'RUNTIMES_FILE' : 'RUNTIMES'
  if (value.RUNTIMES && value.RUNTIMES_FILE)
    problems.push({ variable: 'RUNTIMES', allowed: 'set either RUNTIMES or RUNTIMES_FILE, not both' })
  if ((value.RUNTIMES || value.RUNTIMES_FILE) && value.DIFFUSERS_RUNTIME_URL)
    problems.push({
      variable: 'DIFFUSERS_RUNTIME_URL',
      allowed: `contradicts ${variable}: remove one of the two`,
    })

  if (value.RUNTIMES_FILE || value.RUNTIMES) {
    let json: unknown
    try {
      json = JSON.parse(
        value.RUNTIMES_FILE ? readFileSync(value.RUNTIMES_FILE, 'utf8') : (value.RUNTIMES as string),
      )
    } catch (error) {
      problems.push({ variable, allowed: `must be a JSON array of targets: ${reason(error)}` })
      return []
    }
    const names = (targets: readonly TargetDefinition[]) => new Set(targets.map(({ name }) => name)).size
    const parsed = z
      .array(targetDefinition)
      .min(1, 'must name at least one target')
      .refine((targets) => names(targets) === targets.length, 'must give every target a name of its own')
      .safeParse(json)
    if (parsed.success) return parsed.data
    for (const issue of parsed.error.issues)
      problems.push({ variable: `${variable}${pathOf(issue.path)}`, allowed: issue.message })
    return []
  }
  if (value.DIFFUSERS_RUNTIME_URL)
    return [
      {
        name: value.DIFFUSERS_RUNTIME_SERVICE ?? 'diffusers',
        kind: 'kserve',
        url: value.DIFFUSERS_RUNTIME_URL,
        model: value.DIFFUSERS_MODEL_ID,
        concurrency: value.DIFFUSERS_RUNTIME_CONCURRENCY,
        queue: value.DIFFUSERS_RUNTIME_QUEUE,
        defaults: {},
      },
    ]
  return [targetDefinition.parse({ name: 'icons', kind: 'embedded' })]
}

/** True where only this machine can connect to the address. */
function isLoopback(host: string): boolean {
  if (isIPv4(host)) return host.startsWith('127.')
  if (isIPv6(host)) return host === '::1'
  return host === 'localhost'
}

const pathOf = (path: readonly PropertyKey[]) =>
  path.map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`)).join('')
const reason = (error: unknown) => (error instanceof Error ? error.message : String(error))

/** The table of all variables, for `--help`. */
export function configHelp(): string {
  const lines = (Object.entries(SETTINGS) as [string, Setting<unknown>][]).map(([name, spec]) => {
    const fallback = spec.default === undefined ? '' : ` Default: ${spec.default}.`
    const file = spec.secret ? ` Or ${name}_FILE: a file with it, re-read when it changes.` : ''
    return `  ${name}\n      ${spec.doc}${file}\n      Allowed: ${spec.allowed}.${fallback}`
  })
  return `diffusers-mcp is configured by environment variables.\n\n${lines.join('\n')}\n`
}

/** The same table in Markdown, for docs/configuration.md. */
export function configMarkdown(): string {
  const cell = (value: string) => value.replaceAll('|', '\\|')
  const rows = (Object.entries(SETTINGS) as [string, Setting<unknown>][]).map(([name, spec]) => {
    const file = spec.secret ? ` Secret; or \`${name}_FILE\`: a file with it, re-read when it changes.` : ''
    const fallback = spec.default === undefined ? '' : `\`${spec.default}\``
    return `| \`${name}\` | ${cell(spec.doc + file)} | ${cell(spec.allowed)} | ${fallback} |`
  })
  return ['| variable | meaning | allowed | default |', '|---|---|---|---|', ...rows].join('\n')
}
