/** What this server sees of its targets' replicas, told to the book: at the start, at each change, and again and again. */
import type { Target } from '../../runtimes/targets.ts'
import type { Book } from './book/book.ts'

export type Sight = ReturnType<typeof createSight>

/**
 * Tells nothing yet but changes.
 * @param options.leaseMs how long the book believes what it was told, in milliseconds.
 */
export function createSight(options: {
  readonly targets: readonly Target[]
  readonly book: Pick<Book, 'see'>
  readonly server: string
  readonly leaseMs: number
}) {
  const { targets, book, server, leaseMs } = options

  async function tell({ name, pool }: Target, replicas = pool.ready()): Promise<void> {
    await book.see({ target: name, server, replicas, cap: pool.cap, leaseMs })
  }
  // What is not told because Valkey is away is told when it is back.
  const endings = targets.map((target) => target.pool.onChange(() => void tell(target).catch(() => {})))

  return {
    /** Says what it sees, whether it changed or not. @throws AppError `overloaded` while Valkey is away. */
    async tellAll(): Promise<void> {
      await Promise.all(targets.map((target) => tell(target)))
    },
    /** Sees nothing any more: the replicas are those of the other servers. */
    async stop(): Promise<void> {
      for (const end of endings) end()
      await Promise.all(targets.map((target) => tell(target, []).catch(() => {})))
    },
  }
}
