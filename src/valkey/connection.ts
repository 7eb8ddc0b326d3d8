/**
 * A connection to Valkey (or Redis) that fails at once while the server is away, and comes back by itself. Away is who
 * does not answer a PING; who has much to do is slow, and that concerns single commands only.
 */
import { Redis, type RedisOptions } from 'ioredis'
import type { Secret } from '../auth/secret.ts'
import { AppError } from '../errors.ts'
import type { Logger } from '../telemetry/log.ts'
import { createPatience, PATIENCE_MS, Slow } from './patience.ts'

/** A server that is silent for longer, also to a PING, is away, unless told otherwise; in milliseconds. */
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
   * @throws AppError `overloaded` while the server is away or full, and where it takes more than 10 s for this command:
   * it may carry that out still. The server's error for anything else.
   */
  use<T>(act: (client: Redis) => Promise<T>, options?: { probe?: boolean }): Promise<T>
  /** As `use`, on another connection, for long reads: those that `use` the first one do not wait behind them. */
  aside<T>(act: (client: Redis) => Promise<T>): Promise<T>
  /** Makes a script a command of both connections. */
  define(name: string, script: { readonly numberOfKeys: number; readonly lua: string }): void
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
 * users, and a server that is silent for `commandTimeoutMs` is away. The URL is read again for every attempt, so a
 * password may be rotated. `onReady` is called after every connect.
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
  /** When (`performance.now()`) the main connection brought a reply. */
  let repliedAt = performance.now()

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

  /** The main connection brought a reply, be it one that nobody waits for any more: the server is there. */
  function heard(): void {
    repliedAt = performance.now()
    if (awaySince === undefined) return
    back()
    onReady?.()
  }

  const client = open({ enableOfflineQueue: false, maxRetriesPerRequest: 0 })
  // Opened when it is needed first. The main connection tells of an outage; this one only must not end the process.
  const side = open({ lazyConnect: true, maxRetriesPerRequest: 0 })
  side.on('error', () => {})
  const patience = createPatience({ ping: () => side.ping(), timeoutMs: commandTimeoutMs })
  client.on('error', away)
  client.on('close', () => away(new Error('connection closed')))
  client.on('ready', () => {
    back()
    onReady?.()
  })

  const connected = firstReady(client)

  const unavailable = (is: string, cause?: unknown) =>
    new AppError('overloaded', `The ${what} ${is} at the moment; try again shortly.`, {
      retryAfterSeconds: RETRY_AFTER_SECONDS,
      ...(cause === undefined ? {} : { cause }),
    })
  const unreachable = (cause?: unknown) => unavailable('cannot be reached', cause)
  const slow = (cause: Slow) => unavailable('is slow', cause)

  return {
    client,
    connected,

    async use(act, { probe = false } = {}) {
      if (awaySince !== undefined && !(probe && client.status === 'ready')) throw unreachable()
      try {
        const reply = act(client)
        reply.then(heard, (error) => isAnswer(error) && heard())
        return await patience.answered(reply)
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error)
        if (message.startsWith('OOM'))
          throw new AppError('overloaded', `The ${what} is full; try again later.`, { cause: error })
        if (isAnswer(error)) throw error
        if (error instanceof Slow) {
          // The server is there and this connection brings nothing at all: it is broken, and no end of it was told.
          if (performance.now() - repliedAt > PATIENCE_MS) client.disconnect(true)
          throw slow(error)
        }
        away(error)
        throw unreachable(error)
      }
    },

    async aside(act) {
      if (awaySince !== undefined) throw unreachable()
      try {
        return await patience.answered(act(side))
      } catch (error) {
        if (error instanceof Slow) {
          side.disconnect(true)
          throw slow(error)
        }
        throw isAnswer(error) ? error : unreachable(error)
      }
    },

    define(name, script) {
      for (const connection of [client, side]) connection.defineCommand(name, script)
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
      side.disconnect()
    },
  }
}

/** Resolves with the first connection, or some seconds later without one. */
function firstReady(client: Redis): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, FIRST_CONNECT_MS)
    client.once('ready', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

/** True for an answer of a server that serves, false for a failure to get one. */
function isAnswer(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError' && !NOT_NOW.test(error.message)
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
