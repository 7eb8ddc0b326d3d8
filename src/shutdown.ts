/**
 * The end of a process, which always comes. At the first SIGTERM or SIGINT the server is not ready; after
 * DRAIN_DELAY_MS idle connections close, and accepted work and answers go on for at most DRAIN_MS; then everything is
 * cut. A second signal ends the process at once.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Listener } from './listener.ts'
import { exitWith } from './start.ts'
import type { Logger } from './telemetry/log.ts'

/** How long the last answers, of what DRAIN_MS ended, may take, in milliseconds. */
const LAST_ANSWERS_MS = 750
/** How long the parts may take to close if nothing of DRAIN_MS is left, in milliseconds. */
const CLOSE_MS = 750
/** Exit statuses that shells give to a process that a signal ended. */
const EXIT_STATUS = { SIGINT: 130, SIGTERM: 143 } as const

/** Calls `stop` at the first SIGTERM or SIGINT, and then ends the process. A second signal ends it at once. */
export function onStopSignal(stop: () => Promise<void>): void {
  let stopping = false
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.on(signal, () => {
      if (stopping) process.exit(EXIT_STATUS[signal])
      stopping = true
      if (signal === 'SIGINT' && process.stderr.isTTY)
        process.stderr.write(
          'Stopping: accepted work is finished first. Press Ctrl-C again to end at once.\n',
        )
      void stop().then(
        () => process.exit(0),
        (error) => exitWith(`Shutting down failed: ${error}`),
      )
    })
}

/** Ends a server. Resolves at most 2 s after DRAIN_DELAY_MS and DRAIN_MS. */
export async function endServer(options: {
  readonly parts: { drain(): Promise<void>; cut(): void; close(): Promise<void> }
  readonly listeners: readonly Listener[]
  readonly drainDelayMs: number
  readonly drainMs: number
  readonly log: Logger
}): Promise<void> {
  const { parts, listeners, drainDelayMs, drainMs, log } = options
  const deadline = performance.now() + drainDelayMs + drainMs
  const each = (act: (listener: Listener) => Promise<void>) => Promise.all(listeners.map(act))

  const drained = parts.drain()
  void sleep(drainDelayMs).then(() => each((listener) => listener.closeIdle()))
  const finished = drained.then(() => {
    for (const listener of listeners) listener.stopListening()
    return each((listener) => listener.untilEmpty())
  })
  await within(deadline + LAST_ANSWERS_MS, finished)

  // Calls that end now did not lose their client.
  parts.cut()
  const cuts = listeners.map((listener) => listener.destroy())
  const connections = cuts.reduce((sum, cut) => sum + cut.connections, 0)
  const unsent = cuts.reduce((sum, cut) => sum + cut.unsentBytes, 0)
  log[connections > 0 ? 'warn' : 'info']({
    event: 'connections closed',
    cut_connections: connections,
    unsent_bytes: unsent,
  })
  await closeWithin({ until: deadline + LAST_ANSWERS_MS + CLOSE_MS, close: parts.close, log })
}

/** Closes the parts. A store that does not answer cannot hold the process: what it holds of it runs out there. */
export async function closeWithin(options: {
  /** By the monotonic clock. */
  readonly until: number
  readonly close: () => Promise<void>
  readonly log: Logger
}): Promise<void> {
  const { until, close, log } = options
  if (!(await within(until, close())))
    log.warn({ event: 'stopped', message: 'Not everything closed in time; the process ends without it.' })
}

/** Waits for work until a moment. @returns false where it took longer. @throws what the work throws. */
async function within(until: number, work: Promise<unknown>): Promise<boolean> {
  const over = new AbortController()
  const timeout = sleep(Math.max(0, until - performance.now()), false, { signal: over.signal }).catch(
    () => false,
  )
  const inTime = await Promise.race([work.then(() => true), timeout])
  over.abort()
  // It may fail after nobody waits for it.
  work.catch(() => {})
  return inTime
}
