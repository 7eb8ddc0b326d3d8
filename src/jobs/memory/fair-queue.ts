/**
 * Start-time fair queuing between callers (Goyal, Vin, Cheng 1996): every caller's head of line carries the virtual
 * time at which it should start, the least one goes next, and a caller's next start is its last start plus what that
 * cost. A newcomer enters at the current virtual time, so it waits for at most one item of each backlogged caller.
 */

export interface FairQueue<T> {
  readonly size: number
  /** Items of one caller that wait. */
  sizeOf(caller: string): number
  push(item: T, options: { caller: string; cost: number }): void
  /** Takes out the item that goes next. */
  shift(): T | undefined
  /** Takes an item out of its turn, without cost to its caller; false when it is not there. */
  remove(item: T): boolean
  /** All items in the order in which they would go if nobody else came. */
  inOrder(): readonly T[]
  /** Cost of everything that would go before a new item of this caller. */
  costAhead(caller: string): number
  /** Cost of everything that would go before the first waiting item of this caller; 0 where none waits. */
  costBefore(caller: string): number
}

interface Queued<T> {
  readonly item: T
  readonly cost: number
  /** Breaks ties between callers: who came first goes first. */
  readonly arrival: number
}

interface Line<T> {
  readonly queued: Queued<T>[]
  /** Virtual start of the head of the line. */
  start: number
}

/** An empty queue. Costs are positive numbers of any one unit. */
export function createFairQueue<T>(): FairQueue<T> {
  const lines = new Map<string, Line<T>>()
  /** Where a caller whose line ran empty would start next, while that still lies ahead of the virtual time. */
  const debts = new Map<string, number>()
  let virtualTime = 0
  let arrivals = 0
  let size = 0

  const startOf = (caller: string) => Math.max(virtualTime, debts.get(caller) ?? 0)

  function* order(): Generator<[string, Queued<T>]> {
    const cursors = [...lines].map(([caller, { queued, start }]) => ({ caller, queued, start, index: 0 }))
    for (;;) {
      let next: (typeof cursors)[number] | undefined
      for (const cursor of cursors)
        if (cursor.index < cursor.queued.length && (!next || before(cursor, next))) next = cursor
      if (!next) return
      const queued = next.queued[next.index] as Queued<T>
      yield [next.caller, queued]
      next.index += 1
      next.start += queued.cost
    }
  }

  /** Cost of all items that go before one with this virtual start and arrival. */
  function costUntil(start: number, arrival: number): number {
    let total = 0
    for (const line of lines.values()) {
      let at = line.start
      for (const queued of line.queued) {
        if (at > start || (at === start && queued.arrival >= arrival)) break
        total += queued.cost
        at += queued.cost
      }
    }
    return total
  }

  return {
    get size() {
      return size
    },
    sizeOf: (caller) => lines.get(caller)?.queued.length ?? 0,

    push(item, { caller, cost }) {
      const line = lines.get(caller) ?? { queued: [], start: startOf(caller) }
      line.queued.push({ item, cost, arrival: arrivals })
      lines.set(caller, line)
      debts.delete(caller)
      arrivals += 1
      size += 1
    },

    shift() {
      const first = order().next()
      if (first.done) return undefined
      const [caller, { item, cost }] = first.value
      const line = lines.get(caller) as Line<T>
      virtualTime = line.start
      line.queued.shift()
      line.start += cost
      size -= 1
      if (line.queued.length === 0) {
        lines.delete(caller)
        debts.set(caller, line.start)
      }
      for (const [other, start] of debts) if (start <= virtualTime) debts.delete(other)
      // The busy period is over: nobody owes anybody anything.
      if (size === 0) debts.clear()
      return item
    },

    remove(item) {
      for (const [caller, line] of lines) {
        const index = line.queued.findIndex((queued) => queued.item === item)
        if (index < 0) continue
        line.queued.splice(index, 1)
        size -= 1
        if (line.queued.length === 0) {
          lines.delete(caller)
          if (line.start > virtualTime) debts.set(caller, line.start)
        }
        return true
      }
      return false
    },

    inOrder: () => [...order()].map(([, { item }]) => item),

    costAhead(caller) {
      const own = lines.get(caller)
      return costUntil(own ? own.start + sum(own.queued) : startOf(caller), arrivals)
    },

    costBefore(caller) {
      const own = lines.get(caller)
      return own ? costUntil(own.start, own.queued[0]?.arrival ?? arrivals) : 0
    },
  }
}

function before<T>(
  a: { queued: readonly Queued<T>[]; start: number; index: number },
  b: { queued: readonly Queued<T>[]; start: number; index: number },
): boolean {
  if (a.start !== b.start) return a.start < b.start
  return (a.queued[a.index]?.arrival ?? 0) < (b.queued[b.index]?.arrival ?? 0)
}

const sum = (queued: readonly { cost: number }[]) => queued.reduce((total, { cost }) => total + cost, 0)
