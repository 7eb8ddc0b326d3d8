/** Decides whether this server should get traffic, from its phase and its dependencies. */
import { z } from 'zod'
import { textForCallers } from '../errors.ts'
import type { Logger } from '../telemetry/log.ts'

/** How long the result of a check is valid, and its timeout, in milliseconds. */
const FRESH_MS = 5000
const CHECK_TIMEOUT_MS = 3000

/** A system that the server needs. */
export interface Dependency {
  readonly name: string
  /** The toolset that needs it. */
  readonly toolset: string
  /** True: the toolset cannot work without it. Else the toolset needs any one of those that are not required. */
  readonly required?: boolean
  /** Rejects while the dependency is unusable. */
  check(options: { signal: AbortSignal }): Promise<void>
}

const dependencyStatus = z.object({ toolset: z.string(), ok: z.boolean(), message: z.string().optional() })

/** What `/ready` answers. */
export const readyAnswer = z.object({
  status: z.enum(['ready', 'starting', 'draining', 'unavailable']),
  dependencies: z.record(z.string(), dependencyStatus),
})

type DependencyStatus = z.output<typeof dependencyStatus>

export interface ReadyReport extends z.output<typeof readyAnswer> {
  readonly ready: boolean
}

export interface Readiness {
  set(phase: 'starting' | 'serving' | 'draining'): void
  /** True from SIGTERM on. */
  isDraining(): boolean
  /** Answers from the last check. Starts another one in the background when that is older than 5 s. */
  report(): Promise<ReadyReport>
}

function forEverybody({ message, ...status }: DependencyStatus): DependencyStatus {
  return message === undefined ? status : { ...status, message: textForCallers(message) }
}

/**
 * The server is ready while at least one of its toolsets is usable. `toolsets` are those that the operator configured;
 * others are reported, and do not count.
 */
export function createReadiness({
  dependencies,
  toolsets,
  log,
}: {
  dependencies: readonly Dependency[]
  toolsets: readonly string[]
  log: Logger
}): Readiness {
  let phase: 'starting' | 'serving' | 'draining' = 'starting'
  let known: Record<string, DependencyStatus> = {}
  let checkedAt = Number.NEGATIVE_INFINITY
  let checking: Promise<void> | undefined

  async function ask({ name, toolset, check }: Dependency): Promise<[string, DependencyStatus]> {
    try {
      await check({ signal: AbortSignal.timeout(CHECK_TIMEOUT_MS) })
      return [name, { toolset, ok: true }]
    } catch (error) {
      const message =
        (error as Error).name === 'TimeoutError'
          ? `no answer within ${CHECK_TIMEOUT_MS / 1000} s`
          : (error as Error).message
      return [name, { toolset, ok: false, message }]
    }
  }

  async function refresh(): Promise<void> {
    const before = known
    const checked = await Promise.all(dependencies.map(ask))
    // Everybody may read the report; the log may say which host it is.
    known = Object.fromEntries(checked.map(([name, status]) => [name, forEverybody(status)]))
    checkedAt = performance.now()
    for (const [name, status] of checked)
      if (status.ok !== before[name]?.ok)
        log[status.ok ? 'info' : 'warn']({
          event: 'dependency',
          name,
          ok: status.ok,
          message: status.message,
        })
  }

  function isUsable(toolset: string): boolean {
    const needed = dependencies.filter((dependency) => dependency.toolset === toolset)
    const alternatives = needed.filter(({ required }) => !required)
    const ok = ({ name }: Dependency) => known[name]?.ok === true
    return (
      needed.every((one) => !one.required || ok(one)) && (alternatives.length === 0 || alternatives.some(ok))
    )
  }

  return {
    set(next) {
      phase = next
    },
    isDraining: () => phase === 'draining',
    async report() {
      if (phase !== 'serving') return { ready: false, status: phase, dependencies: known }
      if (performance.now() - checkedAt > FRESH_MS)
        checking ??= refresh().finally(() => {
          checking = undefined
        })
      if (checkedAt === Number.NEGATIVE_INFINITY) await checking
      const usable = toolsets.some(isUsable)
      return { ready: usable, status: usable ? 'ready' : 'unavailable', dependencies: known }
    },
  }
}
