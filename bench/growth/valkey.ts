/** A Valkey for the laws, and what its scripts took by its own account. */
import { constants, setPriority } from 'node:os'
import { Redis } from 'ioredis'
import { startValkey } from '../../test/support/valkey.ts'

export interface MeasuredValkey {
  readonly url: string
  /** What the scripts took that ran meanwhile, in microseconds. */
  scripts(act: () => Promise<unknown>): Promise<{ readonly calls: number; readonly micros: number }>
  /** The longest script that ran meanwhile, in microseconds. */
  longestScript(act: () => Promise<unknown>): Promise<number>
  stop(): Promise<void>
}

const SLOWLOG_ENTRIES = 100_000

/** Starts a Valkey. Its log of slow commands keeps what takes longer than 20 us, which is nearly every script. */
export async function startMeasuredValkey(): Promise<MeasuredValkey> {
  const server = await startValkey({
    'slowlog-log-slower-than': '20',
    'slowlog-max-len': String(SLOWLOG_ENTRIES),
  })
  try {
    // A script's time goes on while other programs have the CPU, so that on a busy machine it says little.
    setPriority(server.pid(), constants.priority.PRIORITY_HIGHEST)
  } catch {
    // Not allowed to everybody.
  }
  const asker = new Redis(server.url)
  return {
    url: server.url,
    async scripts(act) {
      await asker.config('RESETSTAT')
      await act()
      const info = await asker.info('commandstats')
      const [, calls = 0, micros = 0] = /^cmdstat_evalsha:calls=(\d+),usec=(\d+)/m.exec(info) ?? []
      return { calls: Number(calls), micros: Number(micros) }
    },
    async longestScript(act) {
      await asker.slowlog('RESET')
      await act()
      const entries = (await asker.slowlog('GET', SLOWLOG_ENTRIES)) as [number, number, number, string[]][]
      return Math.max(
        0,
        ...entries.filter(([, , , [name]]) => name === 'evalsha').map(([, , micros]) => micros),
      )
    },
    async stop() {
      asker.disconnect()
      await server.stop()
    },
  }
}
