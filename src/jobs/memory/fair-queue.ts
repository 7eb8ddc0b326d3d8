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
}

/** The waiting items of one caller. */
interface Line<T> {
  readonly queued: Queued<T>[]
  /**
   * A turn for each item, by arrival, which breaks ties between callers: who came first goes first. The n-th item takes
   * the n-th turn: an item that is taken out leaves its turn to the caller's next one.
   */
  readonly turns: number[]
  /** Virtual start of the first turn. */
  start: number
}

/** An empty queue. Costs are positive numbers of any one unit. */
export function createFairQueue<T>(): FairQueue<T> {
  const lines = new Map<string, Line<T>>()
  /**
   * Where a caller whose line ran empty would start next, while that still lies ahead of the virtual time. When the
   * queue runs empty the busy period is over: nobody owes anybody anything.
   */
  const debts = new Map<string, number>()
  let virtualTime = 0
  let arrivals = 0
  let size = 0

  const startOf = (caller: string) => Math.max(virtualTime, debts.get(caller) ?? 0)

  function* order(): Generator<[string, Queued<T>]> {
    const cursors = [...lines].map(([caller, line]) => ({ ...line, caller, index: 0 }))
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

  /** Cost of all items that go before a turn with this virtual start and arrival. */
  function costUntil(start: number, arrival: number): number {
    let total = 0
    for (const line of lines.values()) {
      let at = line.start
      for (const [index, { cost }] of line.queued.entries()) {
        if (at > start || (at === start && (line.turns[index] as number) >= arrival)) break
        total += cost
        at += cost
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
      const line = lines.get(caller) ?? { queued: [], turns: [], start: startOf(caller) }
      line.queued.push({ item, cost })
      line.turns.push(arrivals)
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
      line.turns.shift()
      line.start += cost
      size -= 1
      if (line.queued.length === 0) {
        lines.delete(caller)
        debts.set(caller, line.start)
      }
      for (const [other, start] of debts) if (start <= virtualTime) debts.delete(other)
      if (size === 0) debts.clear()
      return item
    },

    remove(item) {
      for (const [caller, line] of lines) {
        const index = line.queued.findIndex((queued) => queued.item === item)
        if (index < 0) continue
        line.queued.splice(index, 1)
        line.turns.pop()
        size -= 1
        if (line.queued.length === 0) {
          lines.delete(caller)
          if (line.start > virtualTime) debts.set(caller, line.start)
        }
        if (size === 0) debts.clear()
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
      return own ? costUntil(own.start, own.turns[0] as number) : 0
    },
  }
}

interface Cursor {
  readonly turns: readonly number[]
  readonly start: number
  readonly index: number
}

function before(a: Cursor, b: Cursor): boolean {
  if (a.start !== b.start) return a.start < b.start
  return (a.turns[a.index] as number) < (b.turns[b.index] as number)
}

const sum = (queued: readonly { cost: number }[]) => queued.reduce((total, { cost }) => total + cost, 0)
