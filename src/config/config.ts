/**
 * Environment -> Config, in this order: every variable by itself, then what belongs together (authentication, targets,
 * pictures, data). All problems are reported together.
 */
import { isIPv4, isIPv6 } from 'node:net'
import type { AuthSettings } from '../auth/authenticate.ts'
import { fileSecret, fixedSecret, type Secret } from '../auth/secret.ts'
import type { S3Settings } from '../images/open.ts'
import type { TargetDefinition } from '../runtimes/targets.ts'
import type { DataSettings } from '../tools/data-tools.ts'
import { checkReach, readAuth } from './auth.ts'
import { readTrino, readXdp } from './data.ts'
import { checkShared, readS3 } from './images.ts'
import { ConfigError, type ConfigProblem, reason } from './problem.ts'
import type { Setting } from './setting.ts'
import { type Raw, SETTINGS, type Secrets, type SettingName } from './settings.ts'
import { readTargets } from './targets.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** The checked configuration. */
export interface Config extends DataSettings {
  readonly host: string
  readonly port: number
  readonly metricsPort: number | undefined
  /** As configured. On loopback an absent one is derived from the address. */
  readonly publicUrl: string | undefined
  readonly loopback: boolean
  readonly allowedHosts: readonly string[] | undefined
  readonly allowedOrigins: readonly string[]
  /** Empty if no authentication is configured. */
  readonly auth: AuthSettings
  /** 0 turns the limit off. */
  readonly rateLimitPerMinute: number
  /** 0: no bound. */
  readonly maxHeldPerCaller: number
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
  /** False where only data sources are configured: pictures are then an extra that nobody asked for. */
  readonly isForPictures: boolean
  /** The Kubernetes Service of the single runtime, for diagnostics. */
  readonly runtimeService: string | undefined
  readonly runtimeWaitMs: number
  readonly waitBudgetMs: number
  readonly jobDeadlineMs: number
  readonly orphanGraceMs: number
  readonly drainDelayMs: number
  readonly drainMs: number
  /** Present if a backend is valkey. */
  readonly valkeyUrl: Secret | undefined
  readonly jobs: {
    readonly backend: Raw['JOBS_BACKEND']
    readonly lockMs: number
    readonly maxReruns: number
    readonly remembered: number
  }
  readonly images: {
    readonly backend: Raw['IMAGES_BACKEND']
    readonly directory: string
    readonly maxBytes: number
    readonly valkeyMaxBytes: number
    readonly ttlSeconds: number
    readonly urlKey: Secret | undefined
    readonly inlineMaxBytes: number
    /** Present if the backend is s3. */
    readonly s3: S3Settings | undefined
  }
}

/**
 * Reads the whole configuration.
 * @throws ConfigError that lists every wrong variable, its value (unless it is a secret) and the allowed values.
 */
export function loadConfig(env: Environment): Config {
  const problems: ConfigProblem[] = []
  const { value, secrets } = readSettings(env, problems)
  const loopback = value.HOST !== undefined && isLoopback(value.HOST)
  const auth = readAuth(value, secrets, problems)
  checkReach({ env, value, loopback, problems })
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
    maxHeldPerCaller: value.RATE_LIMIT_PER_MINUTE === 0 ? 0 : value.MAX_HELD_PER_CALLER,
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
    isForPictures: isNamed(value) || (!cluster && !xdp),
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
    jobs: {
      backend: value.JOBS_BACKEND,
      lockMs: value.JOB_LOCK_MS,
      maxReruns: value.JOB_MAX_RERUNS,
      remembered: value.JOBS_REMEMBERED,
    },
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

/** Every variable by itself: its value, checked, and for a secret the way to read it again. */
function readSettings(env: Environment, problems: ConfigProblem[]): { value: Raw; secrets: Secrets } {
  const secrets: Secrets = {}
  const value: Partial<Record<SettingName, unknown>> = {}
  for (const [name, spec] of Object.entries(SETTINGS) as [SettingName, Setting<unknown>][]) {
    const file = spec.secret ? env[`${name}_FILE`] : undefined
    // Manifests often write an empty value for a variable that is not set.
    const given = env[name] === '' ? undefined : env[name]
    if (file && given !== undefined) {
      problems.push({ variable: name, allowed: `set either ${name} or ${name}_FILE, not both` })
      continue
    }
    let secret: Secret | undefined
    try {
      if (file) secret = fileSecret(file)
      else if (spec.secret && given !== undefined) secret = fixedSecret(given)
    } catch (error) {
      problems.push({
        variable: `${name}_FILE`,
        got: JSON.stringify(file),
        allowed: `must be a readable file: ${reason(error)}`,
      })
      continue
    }
    const text = secret?.read() ?? given ?? spec.default
    if (text === undefined) continue
    const parsed = spec.schema.safeParse(text)
    if (parsed.success) value[name] = parsed.data
    else
      problems.push({
        variable: file ? `${name}_FILE` : name,
        got: spec.secret ? undefined : JSON.stringify(text),
        allowed: `allowed: ${spec.allowed}`,
      })
    if (secret) secrets[name] = secret
  }
  return { value: value as Raw, secrets }
}

/** True if a variable names the target. */
function isNamed({ RUNTIMES, RUNTIMES_FILE, DIFFUSERS_RUNTIME_URL }: Raw): boolean {
  return [RUNTIMES, RUNTIMES_FILE, DIFFUSERS_RUNTIME_URL].some(Boolean)
}

/** True if only this machine can connect to the address. */
function isLoopback(host: string): boolean {
  if (isIPv4(host)) return host.startsWith('127.')
  if (isIPv6(host)) return host === '::1'
  return host === 'localhost'
}
