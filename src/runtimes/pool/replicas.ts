/** A pool of replicas that come and go: listed, or found behind a name; each used while it works. */
import { AppError } from '../../errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Runtime } from '../runtime.ts'
import { RuntimeError } from '../trouble.ts'
import { createClients } from './clients.ts'
import { createDiscovery, type Discovery, idOf, type Lookup } from './discovery.ts'
import { createHealth, type Health } from './health.ts'
import type { Outcome, Pool, Replica } from './pool.ts'

const RETRY_AFTER_SECONDS = 5

export interface ReplicaPoolOptions {
  /** The target's name, for messages. */
  readonly name: string
  /** A URL of each replica, or one whose name has the addresses of all of them. */
  readonly found: { readonly urls: readonly string[] } | { readonly url: string; readonly lookup?: Lookup }
  /** Of each replica. */
  readonly slots: number
  readonly cap?: number | undefined
  readonly scalesFromZero: boolean
  /** A client. `host` is the name that requests and certificates have; absent: the URL's. */
  readonly connect: (at: { url: string; host?: string }) => Runtime
  readonly log?: Logger | undefined
}

interface Member extends Replica {
  readonly health: Health
  made: number
}

/** Starts to look for replicas at once; `close` ends it. */
export function createReplicaPool(options: ReplicaPoolOptions): Pool {
  const { name, found, slots, cap, scalesFromZero, connect, log } = options
  const members = new Map<string, Member>()
  const clients = createClients({
    connect: (id) => connect('urls' in found ? { url: id } : { url: id, host: new URL(found.url).host }),
  })
  const listeners = new Set<() => void>()
  const settled = Promise.withResolvers<void>()
  let isSettled = false
  let isFound = false
  let before = ''

  function follow(ids: readonly string[]): void {
    isFound = true
    const now = new Set(ids)
    for (const [id, { health }] of members) {
      if (now.has(id)) continue
      members.delete(id)
      health.close()
      clients.release(id)
      log?.info({ event: 'replica left', target: name, replica: id })
    }
    for (const id of now) {
      if (members.has(id)) continue
      const runtime = clients.hold(id)
      const health = createHealth({ probe: (signal) => runtime.check({ signal }), onChange: changed })
      members.set(id, { id, slots, health, made: 0 })
      log?.info({ event: 'replica found', target: name, replica: id })
    }
    changed()
  }

  const ready = () => [...members.values()].filter(({ health }) => health.state() === 'ready')

  function changed(): void {
    if (!isSettled && isFound && [...members.values()].every(({ health }) => health.hasLooked())) {
      isSettled = true
      settled.resolve()
    }
    const now = ready()
      .map(({ id }) => id)
      .join()
    if (now === before) return
    before = now
    for (const listener of [...listeners]) listener()
  }

  function eject({ id, health }: Member, reason: string): void {
    health.eject(reason)
    log?.warn({ event: 'replica ejected', target: name, replica: id, message: reason })
  }

  /** What an error says about a replica; true where another one may do better. */
  function blame(member: Member, error: AppError): boolean {
    if (!(error instanceof RuntimeError)) return false
    const { trouble, busyMs, message, cause } = error
    const reason = cause instanceof Error ? cause.message : message
    if (trouble === 'failed') return member.health.failed(reason)
    if (trouble === 'busy') member.health.busy(busyMs)
    else {
      eject(member, reason)
      discovery?.refresh()
    }
    return true
  }

  function trouble(): AppError | undefined {
    if (!isSettled || scalesFromZero || anyUsable()) return undefined
    const why = [...members.values()].map(({ health }) => health.why()).find(Boolean)
    return new AppError(
      'runtime_unavailable',
      `No replica of ${name} is ready (${members.size} found). Please try again in a few seconds.`,
      { retryAfterSeconds: RETRY_AFTER_SECONDS, ...(why && { cause: new Error(why) }) },
    )
  }

  const anyUsable = () =>
    [...members.values()].some(({ health }) => health.state() === 'ready' || health.state() === 'busy')

  let discovery: Discovery | undefined
  if ('urls' in found) follow(found.urls.map(idOf))
  else discovery = createDiscovery({ ...found, onFound: follow })

  return {
    ...(cap === undefined ? {} : { cap }),
    changes: true,
    scalesFromZero,
    ready: () => ready().map(({ id, slots }) => ({ id, slots })),
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    runtimeOf: clients.get,
    learn(id, { error, stuck }: Outcome) {
      const member = members.get(id)
      if (!error) {
        member?.health.worked()
        if (member) member.made += 1
        return false
      }
      if (stuck) {
        if (member) eject(member, error.message)
        return true
      }
      // What left the pool is no judge of the request.
      return member ? blame(member, error) : error instanceof RuntimeError
    },
    trouble,
    report: () =>
      [...members.values()].map(({ id, health, made }) => ({
        replica: id,
        slots,
        state: health.state(),
        in_flight: clients.inFlight(id),
        made,
        ejections: health.ejections(),
      })),
    async check({ signal }) {
      if (ready().length > 0) return
      const stopped = Promise.withResolvers<never>()
      const stop = () => stopped.reject(signal.reason)
      signal.addEventListener('abort', stop, { once: true })
      try {
        signal.throwIfAborted()
        await Promise.race([settled.promise, stopped.promise])
      } finally {
        signal.removeEventListener('abort', stop)
      }
      const error = trouble()
      if (error) throw error
    },
    async close() {
      discovery?.close()
      for (const { health } of members.values()) health.close()
      await clients.close()
    },
  }
}
