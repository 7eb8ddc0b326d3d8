/** The clients of the replicas, also of those that left: a run may have been granted before. */
import type { Runtime } from '../runtime.ts'

/** How long the client of a replica that left is kept for a run that was granted before; in milliseconds. */
const KEPT_MS = 60_000

interface Client {
  readonly runtime: Runtime
  /** Pictures that it draws now. */
  inFlight: number
  /** Set while the replica is no member of the pool. */
  timer?: NodeJS.Timeout | undefined
}

/** Nobody's clients yet. @param options.connect makes the client of a replica by its id. */
export function createClients({ connect }: { connect: (id: string) => Runtime }) {
  const clients = new Map<string, Client>()

  function client(id: string): Client {
    const known = clients.get(id)
    if (known) return known
    const runtime = connect(id)
    const made: Client = {
      inFlight: 0,
      runtime: {
        ...runtime,
        async generate(...args: Parameters<Runtime['generate']>) {
          made.inFlight += 1
          try {
            return await runtime.generate(...args)
          } finally {
            made.inFlight -= 1
          }
        },
      },
    }
    clients.set(id, made)
    retire(id)
    return made
  }

  /** Closes the client in a while, unless it is held or draws by then. */
  function retire(id: string): void {
    const known = clients.get(id)
    if (!known) return
    clearTimeout(known.timer)
    known.timer = setTimeout(() => {
      if (known.inFlight > 0) return retire(id)
      clients.delete(id)
      void known.runtime.close().catch(() => {})
    }, KEPT_MS)
    known.timer.unref()
  }

  return {
    /** The client of a member; `release` gives it back. */
    hold(id: string): Runtime {
      const known = client(id)
      clearTimeout(known.timer)
      known.timer = undefined
      return known.runtime
    },
    release: retire,
    get(id: string): Runtime {
      const isKnown = clients.has(id)
      const known = client(id)
      // Asked for again: it is kept for a whole while from now on.
      if (isKnown && known.timer) retire(id)
      return known.runtime
    },
    inFlight: (id: string) => clients.get(id)?.inFlight ?? 0,
    async close(): Promise<void> {
      const all = [...clients.values()]
      clients.clear()
      for (const { timer } of all) clearTimeout(timer)
      await Promise.all(all.map(({ runtime }) => runtime.close()))
    },
  }
}
