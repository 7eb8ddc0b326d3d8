/** What this server sees of its targets' replicas, told to the book: at the start, at each change, and again and again. */
import type { Target } from '../../runtimes/targets.ts'
import type { Book } from './book/book.ts'

/**
 * For how long no server's jobs go to a replica that failed one here, in milliseconds. By then the other servers' own
 * looks have told them, and one server with a bad network does not keep a good replica from all the others.
 */
const EJECTED_MS = 20_000

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
  let isStopped = false

  async function tell(
    { name, pool }: Pick<Target, 'name' | 'pool'>,
    more: Pick<Parameters<Book['see']>[0], 'leaving' | 'ejected'> = {},
  ): Promise<void> {
    const { cap, scalesFromZero: scales } = pool
    await book.see({ target: name, server, replicas: pool.ready(), cap, scales, leaseMs, ...more })
  }
  // What is not told because Valkey is away is told when it is back.
  const quietly = (told: Promise<void>) => void told.catch(() => {})
  const endings = targets.map((target) => target.pool.onChange(() => quietly(tell(target))))

  return {
    /** Says what it sees, whether it changed or not. @throws AppError `overloaded` while Valkey is away. */
    async tellAll(): Promise<void> {
      await Promise.all(targets.map((target) => tell(target)))
    },
    /** A run failed on this replica: where the pool gives it no more, no server does until this one sees it again. */
    failed(target: Pick<Target, 'name' | 'pool'>, id: string): void {
      if (isStopped || target.pool.ready().some((replica) => replica.id === id)) return
      quietly(tell(target, { ejected: [{ id, forMs: EJECTED_MS }] }))
    },
    /** Sees nothing any more: the replicas are those of the other servers. */
    async stop(): Promise<void> {
      isStopped = true
      for (const end of endings) end()
      await Promise.all(targets.map((target) => tell(target, { leaving: true }).catch(() => {})))
    },
  }
}
