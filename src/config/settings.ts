/**
 * The table of all environment variables, each with its meaning. The checks at startup, `--help` and
 * docs/configuration.md are all made from it, so they cannot disagree.
 */
import type { z } from 'zod'
import { ASYMMETRIC, SYMMETRIC } from '../auth/jwt.ts'
import type { Secret } from '../auth/secret.ts'
import { TOKEN_PATTERN } from '../auth/tokens.ts'
import {
  choice,
  httpUrl,
  list,
  listOf,
  type Setting,
  setting,
  text,
  valkeyUrl,
  wholeNumber,
} from './setting.ts'

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
export type SettingName = keyof Settings
/** The values as read; a variable without a default may be undefined. */
export type Raw = {
  [Name in SettingName]:
    | z.output<Settings[Name]['schema']>
    | (Settings[Name] extends { default: string } ? never : undefined)
}
/** The secrets that were given, each with the way to read it again. */
export type Secrets = Partial<Record<SettingName, Secret>>
