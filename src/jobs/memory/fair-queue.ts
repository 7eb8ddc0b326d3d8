/**
 * Start-time fair queuing between callers (Goyal, Vin, Cheng 1996): every caller's head of line carries the virtual
 * time at which it should start, the least one goes next, and a caller's next start is its last start plus what that
 * cost. A newcomer enters at the current virtual time, so it waits for at most one item of each backlogged caller.
 *
 * Nothing walks over the whole queue. With n items of any callers and costs, push, shift and a look at what goes first
 * are O(log n), and each line of more than 256 items adds one look. An item that is taken out moves up the later ones of
 * its line: O(log n) in such a line, in a shorter one at most 256 times that. See turns.ts.
 */
import { createRanked, type Sum } from './ranked.ts'
import { createLine, createTurnIndex, type Line } from './turns.ts'

export interface FairQueue<T> {
  readonly size: number
  /** Items of one caller that wait. */
  sizeOf(caller: string): number
  push(item: T, options: { caller: string; cost: number }): void
  /** Takes out the item that goes next. */
  shift(): T | undefined
  /** Takes an item out of its turn, without cost to its caller; false when it is not there. */
  remove(item: T): boolean
  /** All items in the order in which they would go if nobody else came; O(n log n). */
  inOrder(): readonly T[]
  /** What goes before an item; undefined when it is not there. */
  before(item: T): Sum | undefined
  /** What would go before a new item of this caller. */
  beforeNew(caller: string): Sum
  /** What would go before the first waiting item of this caller; nothing where none waits. */
  beforeFirst(caller: string): Sum
}

interface Place<T> {
  readonly line: Line<T>
  readonly arrival: number
  readonly cost: number
}

/** An empty queue. Costs are positive numbers of any one unit. */
export function createFairQueue<T>(): FairQueue<T> {
  const lines = new Map<string, Line<T>>()
  const places = new Map<T, Place<T>>()
  /** The lines by their first turn. */
  const heads = createRanked<Line<T>>()
  const index = createTurnIndex()
  /**
   * Where a caller whose line ran empty would start next, while that still lies ahead of the virtual time. When the
   * queue runs empty the busy period is over: nobody owes anybody anything.
   */
  const debts = createDebts()
  let virtualTime = 0
  let arrivals = 0

  const startOf = (caller: string) => Math.max(virtualTime, debts.of(caller))

  /** After a line lost an item. */
  function settle(line: Line<T>): void {
    index.shrunk(line)
    if (line.items.total.count > 0) return
    lines.delete(line.caller)
    if (line.start > virtualTime) debts.set(line.caller, line.start)
    if (places.size > 0) return
    debts.clear()
    virtualTime = 0
  }

  return {
    get size() {
      return places.size
    },
    sizeOf: (caller) => lines.get(caller)?.items.total.count ?? 0,

    push(item, { caller, cost }) {
      const arrival = arrivals
      arrivals += 1
      let line = lines.get(caller)
      if (!line) {
        line = createLine(caller, startOf(caller))
        lines.set(caller, line)
        debts.forget(caller)
        heads.add({ key: line.start, tie: arrival, cost: 0, item: line })
      }
      line.items.add({ key: arrival, cost, item })
      line.turns.push(arrival)
      places.set(item, { line, arrival, cost })
      index.grown(line)
    },

    shift() {
      const line = heads.first()
      if (!line) return undefined
      const item = line.items.first() as T
      const { arrival, cost } = places.get(item) as Place<T>
      const turn = line.turns.shift()
      virtualTime = line.start
      heads.remove(line.start, turn)
      index.firstTaken(line, turn)
      line.items.remove(arrival)
      places.delete(item)
      line.start += cost
      const next = line.turns.at(0)
      if (next !== undefined) heads.add({ key: line.start, tie: next, cost: 0, item: line })
      debts.forgetUntil(virtualTime)
      settle(line)
      return item
    },

    remove(item) {
      const place = places.get(item)
      if (!place) return false
      const { line, arrival } = place
      index.movesUp(line, arrival)
      if (line.items.total.count === 1) heads.remove(line.start, line.turns.at(0))
      line.items.remove(arrival)
      line.turns.pop()
      places.delete(item)
      settle(line)
      return true
    },

    inOrder() {
      const all: { item: T; start: number; turn: number }[] = []
      for (const { items, turns, start: first } of lines.values()) {
        let start = first
        for (const [index, { item, cost }] of items.from().entries()) {
          all.push({ item, start, turn: turns.at(index) as number })
          start += cost
        }
      }
      return all.sort((a, b) => a.start - b.start || a.turn - b.turn).map(({ item }) => item)
    },

    before(item) {
      const place = places.get(item)
      if (!place) return undefined
      const { items, turns, start } = place.line
      const { count, cost } = items.before(place.arrival)
      return index.before(start + cost, turns.at(count) as number)
    },

    beforeNew(caller) {
      const own = lines.get(caller)
      return index.before(own ? own.start + own.items.total.cost : startOf(caller), arrivals)
    },

    beforeFirst(caller) {
      const own = lines.get(caller)
      return own ? index.before(own.start, own.turns.at(0) as number) : { count: 0, cost: 0 }
    },
  }
}

/** Where callers would start next who have nothing in the queue. */
function createDebts() {
  const known = new Map<string, { start: number; id: number }>()
  let byStart = createRanked<string>()
  let ids = 0
  function forget(caller: string): void {
    const debt = known.get(caller)
    if (!debt) return
    known.delete(caller)
    byStart.remove(debt.start, debt.id)
  }
  return {
    of: (caller: string) => known.get(caller)?.start ?? 0,
    set(caller: string, start: number): void {
      forget(caller)
      ids += 1
      known.set(caller, { start, id: ids })
      byStart.add({ key: start, tie: ids, cost: 0, item: caller })
    },
    forget,
    /** Forgets the debts that no longer lie ahead of the virtual time. */
    forgetUntil(virtualTime: number): void {
      for (let caller = byStart.first(); caller !== undefined; caller = byStart.first()) {
        if ((known.get(caller)?.start as number) > virtualTime) return
        forget(caller)
      }
    },
    clear(): void {
      known.clear()
      byStart = createRanked()
    },
  }
}
