/** Which servers take work: each listens to a channel of its own while it does, and Valkey counts the listeners. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import type { Valkey } from '../../valkey/connection.ts'

/** How long leaving may take, in milliseconds. A server that Valkey cannot hear counts as alone. */
const LEAVE_MS = 500

export interface Presence {
  /** True while another server takes work; false also while Valkey is away. */
  othersServe(): Promise<boolean>
  /** From now on this server takes no work: it drains. */
  leave(): Promise<void>
}

/** Makes this server present. `subscriber` is a connection in subscriber mode; `channel` is for nothing else. */
export function joinPresence(options: {
  readonly valkey: Valkey
  readonly subscriber: Redis
  readonly channel: string
}): Presence {
  const { valkey, subscriber, channel } = options
  let present = true
  let leaving: Promise<unknown> | undefined
  void subscriber.subscribe(channel).catch(() => {})
  return {
    async othersServe() {
      await leaving
      try {
        const [, servers] = await valkey.use((client) => client.pubsub('NUMSUB', channel))
        return Number(servers) > (present ? 1 : 0)
      } catch {
        return false
      }
    },
    async leave() {
      const left = subscriber.unsubscribe(channel).then(
        () => {
          present = false
        },
        () => {},
      )
      leaving = Promise.race([left, sleep(LEAVE_MS, undefined, { ref: false })])
      await leaving
    },
  }
}
