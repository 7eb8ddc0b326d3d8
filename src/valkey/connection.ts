/** A connection to Valkey (or Redis) that fails at once while the server is away, and comes back by itself. */
import { Redis, type RedisOptions } from 'ioredis'
import type { Secret } from '../auth/secret.ts'
import { AppError } from '../errors.ts'
import type { Logger } from '../telemetry/log.ts'

/** A command that takes longer finds the server away, unless told otherwise; in milliseconds. */
const COMMAND_TIMEOUT_MS = 2000
/** Longest pause between two attempts to connect, in milliseconds. */
const RECONNECT_AT_MOST_MS = 500
/** A server that is there answers sooner than this; nobody waits longer for one that is not, in milliseconds. */
const FIRST_CONNECT_MS = 3000
/** What a caller is told to wait, in seconds. */
const RETRY_AFTER_SECONDS = 2

/** What a server says while it cannot serve: it is loading its data, or another one has taken over. */
const NOT_NOW = /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOAUTH|WRONGPASS)\b/

export interface Valkey {
  /** For libraries that want the client itself. */
  readonly client: Redis
  /**
   * Runs commands on the connection.
   * @param options.probe also while the server is known to be away, to find out whether it is back.
   * @throws AppError `overloaded` while the server is away or full; the server's error for anything else.
   */
  use<T>(act: (client: Redis) => Promise<T>, options?: { probe?: boolean }): Promise<T>
  /** Resolves with the first connection, or some seconds later without one. */
  readonly connected: Promise<void>
  isAway(): boolean
  /** Resolves while the server answers. @throws AppError `overloaded` that says since when it does not. */
  check(): Promise<void>
  /** Another connection with the same settings; `blocking`: for a library that waits and retries by itself. */
  duplicate(options: { blocking: boolean }): Redis
  close(): Promise<void>
}

/**
 * Connects in the background; `what` names the store in messages ("job store"), `effect` says what its absence does to
 * users, and a command that takes longer than `commandTimeoutMs` finds the server away. The URL is read again for every
 * attempt, so a password may be rotated. `onReady` is called after every connect.
 */
export function connectValkey(options: {
  readonly url: Secret
  readonly what: string
  readonly effect?: string
  readonly commandTimeoutMs?: number
  readonly log: Logger
  readonly onReady?: () => void
}): Valkey {
  const { url, what, effect = 'new generations are refused until it is back', log, onReady } = options
  const { commandTimeoutMs = COMMAND_TIMEOUT_MS } = options
  let awaySince: number | undefined = performance.now()
  let told = false
  let closing = false

  const open = (extra: Omit<RedisOptions, 'replyMapping'>) => {
    const client = new Redis(url.read(), {
      ...extra,
      connectTimeout: COMMAND_TIMEOUT_MS,
      retryStrategy(attempt: number) {
        const { username, password } = new URL(url.read())
        Object.assign(client.options, {
          ...(username === '' ? {} : { username: decodeURIComponent(username) }),
          ...(password === '' ? {} : { password: decodeURIComponent(password) }),
        })
        return Math.min(attempt * 50, RECONNECT_AT_MOST_MS)
      },
    })
    return client
  }

  function away(cause: unknown): void {
    awaySince ??= performance.now()
    if (told || closing) return
    told = true
    log.warn({
      event: `${what} is away`,
      address: addressOf(url.read()),
      effect,
      message: cause instanceof Error ? cause.message : String(cause),
    })
  }

  function back(): void {
    if (awaySince !== undefined && told)
      log.info({ event: `${what} is back`, away_ms: performance.now() - awaySince })
    awaySince = undefined
    told = false
  }

  const client = open({
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    commandTimeout: commandTimeoutMs,
  })
  client.on('error', away)
  client.on('close', () => away(new Error('connection closed')))
  client.on('ready', () => {
    back()
    onReady?.()
  })

  const connected = new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, FIRST_CONNECT_MS)
    client.once('ready', () => {
      clearTimeout(timer)
      resolve()
    })
  })

  const unreachable = (cause?: unknown) =>
    new AppError('overloaded', `The ${what} cannot be reached at the moment; try again shortly.`, {
      retryAfterSeconds: RETRY_AFTER_SECONDS,
      ...(cause === undefined ? {} : { cause }),
    })

  return {
    client,
    connected,

    async use(act, { probe = false } = {}) {
      if (awaySince !== undefined && !(probe && client.status === 'ready')) throw unreachable()
      try {
        const result = await act(client)
        if (awaySince !== undefined) {
          back()
          onReady?.()
        }
        return result
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error)
        if (message.startsWith('OOM'))
          throw new AppError('overloaded', `The ${what} is full; try again later.`, { cause: error })
        if (isReply(error) && !NOT_NOW.test(message)) throw error
        away(error)
        throw unreachable(error)
      }
    },

    isAway: () => awaySince !== undefined,

    async check() {
      if (awaySince !== undefined)
        throw new AppError(
          'overloaded',
          `no connection to ${addressOf(url.read())} for ${Math.round((performance.now() - awaySince) / 1000)} s`,
        )
    },

    duplicate({ blocking }) {
      const copy = open(
        blocking
          ? { maxRetriesPerRequest: null }
          : { maxRetriesPerRequest: null, autoResubscribe: true, enableReadyCheck: true },
      )
      // The main connection tells; this one only must not end the process.
      copy.on('error', () => {})
      return copy
    },

    async close() {
      closing = true
      client.disconnect()
    },
  }
}

/** True for an answer of the server, false for a failure to get one. */
function isReply(error: unknown): boolean {
  return error instanceof Error && error.name === 'ReplyError'
}

/** Host and port without the credentials. */
function addressOf(url: string): string {
  const { hostname, port } = new URL(url)
  return `${hostname}:${port || '6379'}`
}

/** A field of the server's INFO. */
export function infoField(info: string, name: string): string | undefined {
  return info.match(new RegExp(`^${name}:(.*?)\\r?$`, 'm'))?.[1]
}

/** What the server's settings put at risk, each with the setting to change; from its INFO. `what` is in danger. */
export function risksOf(
  info: string,
  what = 'accepted jobs',
): readonly { setting: string; is: string; risk: string }[] {
  const policy = infoField(info, 'maxmemory_policy')
  return [
    ...(policy === undefined || policy === 'noeviction'
      ? []
      : [
          {
            setting: 'maxmemory-policy noeviction',
            is: policy,
            risk: `a full server throws ${what} away`,
          },
        ]),
    ...(infoField(info, 'aof_enabled') === '0'
      ? [{ setting: 'appendonly yes', is: 'no', risk: `a restart of the server loses all ${what}` }]
      : []),
  ]
}
