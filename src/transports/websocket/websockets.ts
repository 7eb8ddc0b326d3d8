/**
 * All WebSocket connections of this process: the route that accepts them, their timer, and the shutdown. One connection
 * is in session.ts; sockets.ts has the sockets.
 */
import { setInterval, setTimeout } from 'node:timers'
import type { Context } from 'hono'
import type { Held } from '../../auth/held.ts'
import { AppError } from '../../errors.ts'
import type { Jobs } from '../../jobs/job.ts'
import type { AppEnv } from '../context.ts'
import { peerAddress } from '../peer.ts'
import {
  CLOSING_MS,
  type Connection,
  type Opening,
  Session,
  type SessionParts,
  type Socket,
  type WebSocketLimits,
} from './session.ts'

/** How often timers are checked, in milliseconds. */
const TICK_MS = 1000
/** For how many ticks this server may be cut off from the jobs before its connections move to another one. */
const CUT_OFF_TICKS = 5

/** What an adapter passes to the app beside an upgrade request. `upgrade` is called when the connection may open. */
export interface UpgradeBindings {
  readonly upgrade?: (opening: Opening) => void
}

export interface WebSocketParts extends Omit<SessionParts, 'unsentOf' | 'isDraining' | 'gone'> {
  readonly jobs: Pick<Jobs, 'othersServe' | 'isCutOff'>
  readonly held: Held
}

export interface WebSockets {
  readonly limits: WebSocketLimits
  /** Open connections. */
  readonly size: number
  /**
   * The route's handler, behind all middleware. A server that drains beside others opens the connection and closes it
   * with 1012, because browsers do not show the status of a refused upgrade.
   * @throws AppError `invalid_request` where the request is no upgrade, `overloaded` while draining alone, `rate_limited`
   * where the caller holds too much.
   */
  accept(c: Context<AppEnv>): Promise<Response>
  open(socket: Socket, opening: Opening): Connection
  /**
   * Takes no more connections. Idle ones are closed at once, the others after their calls are answered, or after
   * `timeoutMs`. Resolves when all are gone.
   */
  drain(options: { timeoutMs: number }): Promise<void>
  close(): Promise<void>
}

/**
 * The token that a browser sends as a subprotocol, because it can set no headers: `bearer.<base64url(token)>`.
 * @returns the value of an Authorization header.
 */
export function authorizationOfProtocols(offered: string | undefined): string | undefined {
  const token = protocolsOf(offered).find((protocol) => protocol.startsWith('bearer.'))
  return token && `Bearer ${Buffer.from(token.slice('bearer.'.length), 'base64url').toString()}`
}

function protocolsOf(offered: string | undefined): string[] {
  return (offered ?? '')
    .split(',')
    .map((protocol) => protocol.trim())
    .filter(Boolean)
}

/** @throws AppError `invalid_request` where only other subprotocols are offered. */
function chooseProtocol(offered: string | undefined): 'mcp' | undefined {
  const protocols = protocolsOf(offered)
  if (protocols.includes('mcp')) return 'mcp'
  if (protocols.length === 0) return undefined
  throw new AppError('invalid_request', 'Offer the subprotocol "mcp", or none at all for plain messages.')
}

/** All connections of this process. */
export function createWebSockets(parts: WebSocketParts): WebSockets {
  const { limits, log, jobs, held } = parts
  const sessions = new Set<Session>()
  let draining = false
  let emptied: (() => void) | undefined

  const shared: SessionParts = {
    ...parts,
    unsentOf: new Map(),
    isDraining: () => draining,
    gone(session, reason) {
      sessions.delete(session)
      log.debug({ event: 'websocket closed', request_id: session.requestId, reason, open: sessions.size })
      if (sessions.size === 0) emptied?.()
    },
  }
  // One timer serves all: it checks ten thousand connections in a millisecond.
  let cutOffTicks = 0
  const timer = setInterval(() => {
    const at = performance.now()
    for (const session of sessions) session.tick(at)
    cutOffTicks = jobs.isCutOff() ? cutOffTicks + 1 : 0
    // Once per outage: where every server is cut off, clients that came back stay.
    if (cutOffTicks === CUT_OFF_TICKS) for (const session of sessions) session.drain()
  }, TICK_MS)
  timer.unref()

  async function untilEmpty(timeoutMs: number): Promise<void> {
    if (sessions.size === 0) return
    const { promise, resolve } = Promise.withResolvers<void>()
    emptied = resolve
    const timeout = setTimeout(resolve, timeoutMs)
    await promise
    clearTimeout(timeout)
  }

  return {
    limits,
    get size() {
      return sessions.size
    },
    async accept(c) {
      const { upgrade } = (c.env ?? {}) as UpgradeBindings
      if (!upgrade)
        throw new AppError(
          'invalid_request',
          'This path speaks WebSocket: send an upgrade request (RFC 6455).',
        )
      const offered = c.req.header('sec-websocket-protocol')
      const protocol = chooseProtocol(offered)
      if (draining && !(await jobs.othersServe()))
        throw new AppError('overloaded', 'This server is about to stop; connect again.', {
          retryAfterSeconds: 1,
        })
      const authorization = c.req.header('authorization') ?? authorizationOfProtocols(offered)
      const { caller, requestId } = c.var
      const address = peerAddress(c)
      const release = held.hold({ caller, address })
      upgrade({ caller, authorization, address, requestId, protocol, release })
      c.set('upgraded', true)
      return c.body(null, 204)
    },
    open(socket, opening) {
      const session = new Session(socket, opening, shared)
      sessions.add(session)
      if (draining) session.drain()
      return session
    },
    async drain({ timeoutMs }) {
      draining = true
      for (const session of sessions) session.drain()
      await untilEmpty(timeoutMs)
      for (const session of sessions) session.close('restart')
      await untilEmpty(2 * CLOSING_MS)
    },
    async close() {
      await this.drain({ timeoutMs: 0 })
      clearInterval(timer)
    },
  }
}
