/** How much room Valkey has for jobs, so that it is noticed before a caller is. */
import { infoField, type Valkey } from '../../valkey/connection.ts'
import { RESERVE_BYTES } from '../../valkey/memory.ts'
import { storeFull } from '../endings.ts'

/** What Valkey holds, and may hold; in bytes. */
export interface Room {
  readonly used: number
  readonly max: number
}

/** Looks at nothing yet. */
export function createRoom({ valkey }: { readonly valkey: Pick<Valkey, 'use'> }) {
  let known: Room | undefined

  async function look(): Promise<void> {
    // Some users of Valkey may not ask for INFO.
    const info = await valkey.use((client) => client.info('memory').catch(() => ''))
    const field = (name: string) => Number(infoField(info, name) ?? 0)
    const max = field('maxmemory')
    // As the book's `isFull` counts it.
    known = max === 0 ? undefined : { used: field('used_memory') - field('mem_not_counted_for_evict'), max }
  }

  return {
    look,
    /** At the last look; undefined where there is no bound, or none known. */
    known: () => known,
    /** Whether there was room for another job. @throws AppError `overloaded` */
    check(): void {
      if (known && known.max - known.used < RESERVE_BYTES) throw storeFull()
    },
  }
}
