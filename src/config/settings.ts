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
    'Address to listen on. Any address but loopback needs authentication or AUTH=none.',
    { default: '127.0.0.1' },
  ),
  PORT: setting(wholeNumber(0, 65_535), 'Port to listen on. 0 takes a free one.', { default: '8080' }),
  METRICS_PORT: setting(
    wholeNumber(0, 65_535),
    'Separate port for /metrics. Without it /metrics is on PORT. 0 takes a free one.',
  ),
  PUBLIC_URL: setting(
    httpUrl,
    'The URL at which clients reach this server, with its path prefix. Absolute links are made from ' +
      'it alone. Without it they start with http://HOST:PORT on loopback; elsewhere links are paths.',
  ),
  ALLOWED_HOSTS: setting(
    list('host names, separated by commas', /^[a-z0-9._[\]:-]+$/),
    'Host names to accept, besides the loopback names and the host of PUBLIC_URL. Without it a ' +
      'server that does not listen on loopback accepts every Host header.',
  ),
  ALLOWED_ORIGINS: setting(
    list('origins (https://app.example.com), separated by commas', /^https?:\/\/[a-z0-9.:[\]-]+$/),
    'Browser origins to accept, in addition to the one of PUBLIC_URL. A server on loopback also ' +
      'accepts loopback origins.',
  ),
  AUTH: setting(
    choice('auto', 'none'),
    'auto: clients need a bearer token if MCP_AUTH_TOKEN, AUTH_TOKENS or AUTH_JWT_… is set; a server ' +
      'that others can reach does not start without one of them. none: everyone who can reach the port ' +
      'may use the server. Without authentication calls share nothing: no idempotency keys, no listing.',
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
    'URL of the keys (JWKS) of the issuer of JWT access tokens. Cannot be combined with ' +
      'AUTH_JWT_SECRET.',
  ),
  AUTH_JWT_SECRET: setting(
    text(
      'one or two secrets of at least 32 characters, separated by a comma',
      /^[^\s,]{32,512}(,[^\s,]{32,512})?$/,
    ),
    'The secret that signs JWT access tokens. To rotate it, write "new,old".',
    { secret: true },
  ),
  AUTH_JWT_ISSUER: setting(
    text('the exact text of the claim "iss"', /^[\x21-\x7b\x7d\x7e]{1,500}$/),
    'The issuer of the JWT access tokens. Required with AUTH_JWT_JWKS_URL and AUTH_JWT_SECRET.',
  ),
  AUTH_JWT_AUDIENCE: setting(
    text('the exact text of one "aud"', /^[\x21-\x7e]{1,500}$/),
    'The audience that JWT access tokens must name. For MCP hosts: PUBLIC_URL followed by "/mcp". ' +
      'Required with AUTH_JWT_JWKS_URL and AUTH_JWT_SECRET.',
  ),
  AUTH_JWT_ALGORITHMS: setting(
    listOf(...ASYMMETRIC, ...SYMMETRIC),
    'Accepted signature algorithms. Default: HS256 with AUTH_JWT_SECRET, otherwise all algorithms ' +
      'with a public key. HS algorithms need AUTH_JWT_SECRET; the others cannot be combined with it.',
  ),
  RATE_LIMIT_PER_MINUTE: setting(
    wholeNumber(0, 10_000_000),
    'Requests and messages per caller and minute; also the largest burst. Servers with ' +
      'JOBS_BACKEND=valkey count together, others each by themselves. 0 turns this limit and ' +
      'MAX_HELD_PER_CALLER off. Without authentication, and for failed authentication, the limit is ' +
      "per network of the connection's peer.",
    { default: '600' },
  ),
  MAX_HELD_PER_CALLER: setting(
    wholeNumber(0, 1_000_000),
    'Requests without a complete answer and open WebSockets, together, per caller and replica (without ' +
      "authentication, and for signed links, per network of the connection's peer). 0: no bound.",
    { default: '1000' },
  ),
  MAX_BODY_BYTES: setting(wholeNumber(1024, 2 ** 26), 'Largest request body, in bytes.', {
    default: '65536',
  }),
  WS_PING_MS: setting(
    wholeNumber(1000, DAY_S * 1000),
    'Time between two pings of a WebSocket, in milliseconds. A peer that has not answered by the ' +
      'next ping is disconnected.',
    { default: '30000' },
  ),
  WS_IDLE_MS: setting(
    wholeNumber(1000, DAY_S * 1000),
    'A WebSocket without messages and calls for this long is closed (code 1001), in milliseconds.',
    { default: '1800000' },
  ),
  WS_MAX_MESSAGE_BYTES: setting(
    wholeNumber(1024, 2 ** 26),
    'Largest WebSocket message, in bytes. A larger one closes the connection (code 1009).',
    { default: '65536' },
  ),
  WS_MAX_CALLS: setting(wholeNumber(1, 10_000), 'Concurrent calls per WebSocket.', { default: '16' }),
  WS_MAX_BUFFERED_BYTES: setting(
    wholeNumber(65_536, 2 ** 30),
    'Most data that the server holds for a WebSocket that reads slowly, in bytes. Beyond it the ' +
      'connection is closed (code 1013).',
    { default: '16777216' },
  ),
  LOG_LEVEL: setting(
    choice('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'),
    'How much is logged, as JSON lines. Prompts appear only at debug.',
    { default: 'info' },
  ),
  NODE_ENV: setting(
    text('a name', /^[A-Za-z0-9_-]{1,40}$/),
    'For libraries. The server itself behaves the same for every value.',
  ),

  RUNTIMES: setting(
    text('a JSON array of targets, see "Targets" below'),
    'The targets. The first one is the default. Cannot be combined with DIFFUSERS_RUNTIME_URL.',
  ),
  RUNTIMES_FILE: setting(text('a path'), 'A file with the value of RUNTIMES, read once at startup.'),
  DIFFUSERS_RUNTIME_URL: setting(
    httpUrl,
    'One KServe diffusion runtime, instead of RUNTIMES. With neither of them the server uses its own ' +
      'small model.',
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
    "The runtime's Kubernetes Service. It becomes the target's name and appears in diagnostics.",
  ),
  DIFFUSERS_RUNTIME_NAMESPACE: setting(
    text('a namespace', /^[a-z0-9-]{1,63}$/),
    "The runtime's Kubernetes namespace, for diagnostics.",
  ),
  DIFFUSERS_RUNTIME_CONCURRENCY: setting(
    wholeNumber(1, 1000),
    'Concurrent generations on that runtime: its replicas times the slots per replica.',
    { default: '1' },
  ),
  DIFFUSERS_RUNTIME_QUEUE: setting(wholeNumber(0, 100_000), 'Generations that may wait for that runtime.', {
    default: '16',
  }),

  RUNTIME_WAIT_MS: setting(
    wholeNumber(1000, 60 * MINUTE_MS),
    'How long main.wait.ts waits for all targets together, in milliseconds. The chart runs it before ' +
      'the server.',
    { default: '300000' },
  ),
  WAIT_BUDGET_MS: setting(
    wholeNumber(0, 60 * MINUTE_MS),
    'How long one call waits for its picture, in milliseconds. After that the caller gets a handle. ' +
      'Some MCP hosts abort calls after 45 s.',
    { default: '40000' },
  ),
  JOB_DEADLINE_MS: setting(
    wholeNumber(1000, 24 * 60 * MINUTE_MS),
    'Default deadline of a job, in milliseconds after the request. After it the picture is no longer ' +
      'worth making.',
    { default: '900000' },
  ),
  ORPHAN_GRACE_MS: setting(
    wholeNumber(0, 10 * MINUTE_MS),
    'How long a generation continues after its caller has disconnected, in milliseconds, so that a ' +
      'retry can take it over. Without authentication, and over stdio, it stops at once.',
    { default: '10000' },
  ),
  DRAIN_DELAY_MS: setting(
    wholeNumber(0, 10 * MINUTE_MS),
    'Pause between SIGTERM and refusing new work, in milliseconds, so that load balancers can notice.',
    { default: '0' },
  ),
  DRAIN_MS: setting(
    wholeNumber(0, 60 * MINUTE_MS),
    'How long a stopping server may take to finish accepted work, in milliseconds.',
    { default: '60000' },
  ),

  JOBS_BACKEND: setting(
    choice('memory', 'valkey'),
    'Where jobs are kept. memory: they are lost when the process ends. valkey: any number of servers ' +
      'work as one, and accepted jobs survive the death of any server.',
    { default: 'memory' },
  ),
  VALKEY_URL: setting(
    valkeyUrl,
    'The Valkey or Redis server for jobs and pictures. It needs appendonly yes and maxmemory-policy ' +
      'noeviction.',
    { secret: true },
  ),
  JOBS_REMEMBERED: setting(
    wholeNumber(1000, 100_000_000),
    'How many ended jobs are remembered in all, at most for IMAGE_TTL_SECONDS. Beyond it the oldest one of the ' +
      'caller who has most is forgotten. Each takes up to 2 KiB.',
    { default: '20000' },
  ),
  JOB_LOCK_MS: setting(
    wholeNumber(1000, 10 * MINUTE_MS),
    'A server that is silent for this long, in milliseconds, loses its generations. Another server ' +
      'restarts them within twice this time (valkey).',
    { default: '6000' },
  ),
  JOB_MAX_RERUNS: setting(
    wholeNumber(0, 1_000_000),
    'How often a generation is restarted after its server died (valkey) or its replica refused, lost or ' +
      'hung on it, before the job fails.',
    { default: '3' },
  ),

  IMAGES_BACKEND: setting(
    choice('memory', 'filesystem', 's3', 'valkey'),
    'Where finished pictures are kept. memory: they are lost when the process ends. filesystem: in a ' +
      'folder. s3: shared by all servers. valkey: shared by all servers, for small clusters.',
    { default: 'memory' },
  ),
  IMAGES_DIR: setting(text('a path'), 'Folder of the filesystem backend.', { default: '.images' }),
  IMAGES_S3_ENDPOINT: setting(httpUrl, 'An S3-compatible store with path-style addressing (s3).'),
  IMAGES_S3_BUCKET: setting(
    text('a bucket name', /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/),
    'The bucket for pictures. It must exist (s3).',
  ),
  IMAGES_S3_REGION: setting(
    text('a region', /^[a-z0-9-]{1,40}$/),
    'The region for which requests are signed (s3).',
    {
      default: 'us-east-1',
    },
  ),
  IMAGES_S3_PREFIX: setting(
    text(
      'a path without slashes at its ends, at most 200 characters',
      /^(?=.{1,200}$)(?!.*(^|\/)\.\.?(\/|$))[A-Za-z0-9_.-]+(\/[A-Za-z0-9_.-]+)*$/,
    ),
    'The path of the pictures in the bucket (s3).',
  ),
  IMAGES_S3_ACCESS_KEY: setting(text('an access key', /^\S{1,256}$/), 'The access key (s3).', {
    secret: true,
  }),
  IMAGES_S3_SECRET_KEY: setting(text('a secret key', /^\S{1,256}$/), 'The secret key (s3).', {
    secret: true,
  }),
  IMAGES_MAX_BYTES: setting(
    wholeNumber(2 ** 20, 1024 * GIB),
    'Size limit of the store, in bytes. A full store removes the oldest pictures of the caller that holds most ' +
      '(memory, filesystem).',
    { default: String(GIB / 4) },
  ),
  IMAGES_VALKEY_MAX_BYTES: setting(
    wholeNumber(2 ** 20, 1024 * GIB),
    "Size limit of the pictures, in bytes, shared as IMAGES_MAX_BYTES. The server's maxmemory must " +
      'be at least this, plus a quarter of it, plus 64 MiB for jobs (valkey).',
    { default: String(GIB / 4) },
  ),
  IMAGE_TTL_SECONDS: setting(wholeNumber(1, 30 * DAY_S), 'How long a picture is kept at most, in seconds.', {
    default: '3600',
  }),
  IMAGE_URL_KEY: setting(
    text(
      'one or two keys of at least 32 characters, separated by a comma',
      /^[^\s,]{32,512}(,[^\s,]{32,512})?$/,
    ),
    'The key that signs links to pictures. To rotate it, write "new,old". Without it the server uses ' +
      'a random key, and links stop working when the process ends.',
    { secret: true },
  ),
  INLINE_IMAGE_MAX_BYTES: setting(
    wholeNumber(0, 2 ** 26),
    'Largest picture that MCP clients get inline, in bytes. For a larger one they get a WebP preview ' +
      'and a link. Hosts allow results of 1 MB.',
    { default: '716800' },
  ),

  TRINO_URL: setting(
    httpUrl,
    'A Trino cluster to query directly, by the address that Trino itself uses. Without it the Trino ' +
      'tools work only through XDP, if that is configured.',
  ),
  TRINO_USER: setting(
    text('a user name', /^[\x21-\x7e]{1,200}$/),
    'The Trino user of this server. Give it read-only rights (docs/trino.md). Required with ' +
      'TRINO_URL unless TRINO_JWT names the user.',
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
    'Certificates (PEM) to trust for TRINO_URL, instead of those of the JavaScript engine.',
  ),
  TRINO_QUERY_TIMEOUT_MS: setting(
    wholeNumber(100, 60 * MINUTE_MS),
    'Timeout of a call to a Trino tool, directly or through XDP, in milliseconds. Some MCP hosts ' +
      'abort calls after 45 s.',
    { default: '40000' },
  ),
  TRINO_MAX_ROWS: setting(wholeNumber(1, 100_000), 'Most rows that a Trino tool returns.', {
    default: '1000',
  }),
  TRINO_MAX_BYTES: setting(
    wholeNumber(1024, 2 ** 26),
    'Most bytes of rows, as JSON, that a Trino tool returns.',
    { default: '262144' },
  ),
  TRINO_ALLOW_WRITES: setting(
    choice('false', 'true'),
    'false: trino_execute_query runs only statements that Trino itself classifies as reading. true: ' +
      'it runs everything that the user may do in Trino.',
    { default: 'false' },
  ),

  XDP_BASE_URL: setting(
    httpUrl,
    "Acceldata XDP's control plane, for example https://xdp.example.com/xdp-cp-service/api. Without " +
      'it there are no XDP tools.',
  ),
  XDP_ACCESS_KEY: setting(text('an access key', /^[\x21-\x7e]{1,500}$/), 'The access key (XDP).', {
    secret: true,
  }),
  XDP_SECRET_KEY: setting(text('a secret key', /^[\x21-\x7e]{1,500}$/), 'The secret key (XDP).', {
    secret: true,
  }),
  XDP_TIMEOUT_MS: setting(
    wholeNumber(100, 10 * MINUTE_MS),
    'Timeout of one request to XDP, in milliseconds.',
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
