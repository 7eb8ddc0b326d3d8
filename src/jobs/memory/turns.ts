/**
 * The turns of a fair queue, and what goes before one of them. The turns of short lines are in one index by virtual start.
 * A long line would have to move many of them when one of its items is taken out, so it is looked up by itself: at most
 * n / `LONG` lines are long.
 */
import { createRanked, type Ranked, type Sum } from './ranked.ts'

/** A line of more items than this is long; with less than half of it the line is short again. */
const LONG = 256

/** The waiting items of one caller. */
export interface Line<T> {
  readonly caller: string
  /** By arrival. */
  readonly items: Ranked<T>
  /**
   * A turn for each item, by arrival, which breaks ties between callers: who came first goes first. The n-th item takes
   * the n-th turn: an item that is taken out leaves its turn to the caller's next one.
   */
  readonly turns: Turns
  /** Virtual start of the first turn. */
  start: number
  isLong: boolean
}

/** A line without items. @param start where its first turn will start in virtual time. */
export function createLine<T>(caller: string, start: number): Line<T> {
  return { caller, items: createRanked(), turns: createTurns(), start, isLong: false }
}

/** The turns of no lines yet. */
export function createTurnIndex() {
  /** All turns of the short lines. */
  const short = createRanked<undefined>()
  const long = new Set<Line<unknown>>()

  /** Moves all turns of a line between the index and the line itself. */
  function setLong(line: Line<unknown>, isLong: boolean): void {
    let { start } = line
    for (const [index, { cost }] of line.items.from().entries()) {
      const turn = { key: start, tie: line.turns.at(index) as number }
      if (isLong) short.remove(turn.key, turn.tie)
      else short.add({ ...turn, cost, item: undefined })
      start += cost
    }
    line.isLong = isLong
    if (isLong) long.add(line)
    else long.delete(line)
  }

  return {
    /** What goes before a turn with this virtual start and arrival. */
    before(start: number, arrival: number): Sum {
      let { count, cost } = short.before(start, arrival)
      for (const line of long) {
        const first = firstOf(line, start, arrival)
        count += first.count
        cost += first.cost
      }
      return { count, cost }
    },

    /** After an item and its turn came to the end of a line. */
    grown(line: Line<unknown>): void {
      const { items, turns, isLong } = line
      const { count, cost: all } = items.total
      if (isLong) return
      const tie = turns.at(count - 1) as number
      const cost = items.last()?.cost as number
      short.add({ key: line.start + all - cost, tie, cost, item: undefined })
      if (count > LONG) setLong(line, true)
    },

    /** Before the line's start moves on: its first turn is over. */
    firstTaken({ start, isLong }: Line<unknown>, turn: number): void {
      if (!isLong) short.remove(start, turn)
    },

    /** Before an item is taken out: the later ones move up to the turn before theirs, and the last turn is gone. */
    movesUp(line: Line<unknown>, arrival: number): void {
      if (line.isLong) return
      const earlier = line.items.before(arrival)
      const tail = line.items.from(arrival)
      let before = line.start + earlier.cost
      let after = before
      for (const [index, { cost }] of tail.entries()) {
        const tie = line.turns.at(earlier.count + index) as number
        const taker = tail[index + 1]
        if (before !== after || cost !== taker?.cost) {
          short.remove(before, tie)
          if (taker) short.add({ key: after, tie, cost: taker.cost, item: undefined })
        }
        before += cost
        after += taker?.cost ?? 0
      }
    },

    /** After a line lost an item. Not at the bound itself, so that items that come and go there move nothing. */
    shrunk(line: Line<unknown>): void {
      if (line.isLong && line.items.total.count < LONG / 2) setLong(line, false)
    },
  }
}

/** The items of a line that go before a turn with this virtual start and arrival. */
function firstOf({ items, turns, start: first }: Line<unknown>, start: number, arrival: number): Sum {
  const earlier = items.beginningBefore(start - first)
  const turn = turns.at(earlier.count)
  const ties = turn !== undefined && first + earlier.cost === start && turn < arrival
  return ties ? items.beginningBy(start - first) : earlier
}

type Turns = ReturnType<typeof createTurns>

/** Arrivals in their order; each end can be taken from in O(1). */
function createTurns() {
  let arrivals: number[] = []
  let taken = 0
  return {
    at: (index: number) => arrivals[taken + index],
    push: (arrival: number) => void arrivals.push(arrival),
    pop: () => void arrivals.pop(),
    shift(): number {
      const first = arrivals[taken] as number
      taken += 1
      // Copied once per half of its length, so that a step stays cheap on the whole.
      if (taken * 2 > arrivals.length) {
        arrivals = arrivals.slice(taken)
        taken = 0
      }
      return first
    },
  }
}
