/** Node processes that tell their memory and their event loop's delay when asked. */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Running, start } from '../test/support/process.ts'

export interface Probed {
  /** JavaScript heap and buffers after garbage collection, in bytes. */
  readonly held: number
  /** Resident memory after garbage collection, in bytes. */
  readonly rss: number
  /** How late timers came since the last time, in milliseconds. */
  readonly delay_p50: number
  readonly delay_p99: number
}

/** Starts a Node process that `probe` can ask. */
export function startProbed(entry: string, env: Record<string, string> = {}): Promise<Running> {
  return start({
    command: process.execPath,
    args: ['--expose-gc', '--import', './bench/baselines/probe.ts', entry],
    env: { PORT: '0', LOG_LEVEL: 'info', RATE_LIMIT_PER_MINUTE: '0', ...env },
  })
}

/** What a process started by `startProbed` holds now, and how its event loop fared since the last time. */
export async function probe({ child, log }: Running): Promise<Probed> {
  const seen = log.length
  // What was closed or sent last is let go within this time.
  await sleep(500)
  child.kill('SIGUSR2')
  for (;;) {
    const told = log.slice(seen).find(({ event }) => event === 'probe')
    if (told) return told as unknown as Probed
    await sleep(20)
  }
}
