/** Which replica gets the next picture: the least busy one, and among equals the one that is idle for longest. */
import type { Pool } from '../../runtimes/pool/pool.ts'
import { createRanked } from './ranked.ts'

interface Known {
  readonly id: string
  slots: number
  inUse: number
  /** False: it takes nothing new. */
  isReady: boolean
  /** Its place among equals; the number of the last slot that was freed. */
  turn: number
}

export type Grants = ReturnType<typeof createGrants>

/** The slots of a pool's replicas, all free. A slot is taken and freed in O(log n), with n replicas. */
export function createGrants(pool: Pick<Pool, 'ready' | 'cap'>) {
  const replicas = new Map<string, Known>()
  /** The ready replicas with a free slot, by the share of their slots in use. */
  const free = createRanked<Known>()
  let turns = 0
  let inUse = 0
  /** Of the ready replicas. */
  let slots = 0
  let taken = 0

  const isFree = ({ isReady, inUse, slots }: Known) => isReady && inUse < slots

  /** Every change of a replica goes through here, so that the order and the sums follow. */
  function change(replica: Known, act: () => void): void {
    if (isFree(replica)) free.remove(replica.inUse / replica.slots, replica.turn)
    if (replica.isReady) {
      slots -= replica.slots
      taken -= Math.min(replica.inUse, replica.slots)
    }
    act()
    if (replica.isReady) {
      slots += replica.slots
      taken += Math.min(replica.inUse, replica.slots)
    }
    if (isFree(replica))
      free.add({ key: replica.inUse / replica.slots, tie: replica.turn, cost: 0, item: replica })
    else if (!replica.isReady && replica.inUse === 0) replicas.delete(replica.id)
  }

  function nextTurn(): number {
    turns += 1
    return turns
  }

  function refresh(): void {
    const ready = new Map(pool.ready().map((replica) => [replica.id, replica]))
    for (const known of [...replicas.values()])
      if (known.isReady && !ready.has(known.id))
        change(known, () => {
          known.isReady = false
        })
    for (const { id, slots } of ready.values()) {
      const known = replicas.get(id) ?? { id, slots, inUse: 0, isReady: false, turn: nextTurn() }
      replicas.set(id, known)
      if (!known.isReady || known.slots !== slots)
        change(known, () => {
          known.isReady = true
          known.slots = slots
        })
    }
  }

  const capacity = () => Math.min(slots, pool.cap ?? Number.POSITIVE_INFINITY)
  const left = () => Math.min(slots - taken, (pool.cap ?? Number.POSITIVE_INFINITY) - inUse)

  refresh()

  return {
    /** Pictures at once, as things are. */
    capacity,
    /** Slots of that in use; what still draws on replicas that left counts only against the cap. */
    busy: () => capacity() - Math.max(0, left()),
    /** Pictures that a replica draws now. */
    inUseOf: (id: string) => replicas.get(id)?.inUse ?? 0,
    /** Takes a slot: the id of its replica; undefined where none is free. */
    take(): string | undefined {
      const replica = left() > 0 ? free.first() : undefined
      if (!replica) return undefined
      inUse += 1
      change(replica, () => {
        replica.inUse += 1
      })
      return replica.id
    },
    /** A slot of this replica is free again, also of one that is not ready any more. */
    give(id: string): void {
      const replica = replicas.get(id)
      if (!replica || replica.inUse === 0) throw new Error(`no slot of ${id} is in use`)
      inUse -= 1
      change(replica, () => {
        replica.inUse -= 1
        replica.turn = nextTurn()
      })
    },
    /** The pool's ready replicas have changed. */
    refresh,
  }
}
