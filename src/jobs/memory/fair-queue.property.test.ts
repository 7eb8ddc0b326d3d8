/** Random queues against the law written down plainly, with lines on both sides of what counts as long. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createFairQueue, type FairQueue } from './fair-queue.ts'

/** Multiples of 1/1024, as all costs are; some are equal, and some are sums of others. */
const COSTS = [1, 1, 0.5, 2, 1.5, 37 / 1024, 16]

interface Item {
  readonly id: number
  readonly caller: string
  readonly cost: number
}

/** Start-time fair queuing, each time from the whole queue. */
function plainQueue() {
  const lines = new Map<string, { items: Item[]; turns: number[]; start: number }>()
  const tags = new Map<string, number>()
  let virtualTime = 0
  let arrivals = 0
  const startOf = (caller: string) => Math.max(virtualTime, tags.get(caller) ?? 0)
  const turns = () =>
    [...lines.values()]
      .flatMap(({ items, turns, start: first }) => {
        let start = first
        return items.map((item, index) => {
          const turn = { item, start, turn: turns[index] as number }
          start += item.cost
          return turn
        })
      })
      .sort((a, b) => a.start - b.start || a.turn - b.turn)
  const sumOf = (before: readonly { item: Item }[]) => ({
    count: before.length,
    cost: before.reduce((sum, { item }) => sum + item.cost, 0),
  })
  function take(item: Item): void {
    const line = lines.get(item.caller)!
    line.items.splice(line.items.indexOf(item), 1)
    if (line.items.length > 0) return
    lines.delete(item.caller)
    tags.set(item.caller, line.start)
    if (lines.size > 0) return
    tags.clear()
    virtualTime = 0
  }
  return {
    push(item: Item): void {
      const line = lines.get(item.caller) ?? { items: [], turns: [], start: startOf(item.caller) }
      lines.set(item.caller, line)
      line.items.push(item)
      line.turns.push(arrivals)
      arrivals += 1
    },
    shift(): Item | undefined {
      const first = turns()[0]
      if (!first) return undefined
      const line = lines.get(first.item.caller)!
      virtualTime = line.start
      line.start += first.item.cost
      line.turns.shift()
      take(first.item)
      return first.item
    },
    remove(item: Item): void {
      lines.get(item.caller)!.turns.pop()
      take(item)
    },
    inOrder: () => turns().map(({ item }) => item),
    before: (item: Item) =>
      sumOf(
        turns().slice(
          0,
          turns().findIndex((turn) => turn.item === item),
        ),
      ),
    beforeNew(caller: string) {
      const line = lines.get(caller)
      const start = line ? line.start + sumOf(line.items.map((item) => ({ item }))).cost : startOf(caller)
      return sumOf(turns().filter((turn) => turn.start <= start))
    },
  }
}

const nth = fc.nat({ max: 2000 })
const operation = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('push' as const),
      caller: fc.constantFrom('a', 'b', 'c', 'd'),
      costs: fc.oneof(
        fc.array(fc.constantFrom(...COSTS), { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 100, max: 300 }).map((length) => Array.from({ length }, (_, at) => COSTS[at % 6]!)),
        fc.integer({ min: 100, max: 300 }).map((length) => Array<number>(length).fill(1)),
      ),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('shift' as const), times: fc.constantFrom(1, 3, 150) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('remove' as const), nth, times: fc.constantFrom(1, 3, 150) }),
  },
)
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never

test('the queue says at all times what the law says', () => {
  fc.assert(
    fc.property(fc.array(operation, { minLength: 4, maxLength: 14, size: 'max' }), (operations) => {
      const plain = plainQueue()
      const queue: FairQueue<Item> = createFairQueue()
      const waiting: Item[] = []
      let ids = 0
      for (const step of operations) {
        perform(step)
        expect(queue.size).toBe(waiting.length)
        expect(queue.inOrder()).toEqual(plain.inOrder())
        for (const caller of ['a', 'b', 'c', 'd', 'z'])
          expect(queue.beforeNew(caller), caller).toEqual(plain.beforeNew(caller))
        for (const at of [0, 3, waiting.length >> 1, waiting.length - 1]) {
          const item = waiting[at]
          if (item) expect(queue.before(item)).toEqual(plain.before(item))
        }
      }

      function perform(step: Operation): void {
        if (step.do === 'push')
          for (const cost of step.costs) {
            ids += 1
            const item = { id: ids, caller: step.caller, cost }
            queue.push(item, item)
            plain.push(item)
            waiting.push(item)
          }
        else
          for (let time = 0; time < step.times && waiting.length > 0; time += 1) {
            const chosen = step.do === 'remove' ? waiting[step.nth % waiting.length] : plain.shift()
            if (step.do === 'shift') expect(queue.shift()).toBe(chosen)
            else {
              expect(queue.remove(chosen!)).toBe(true)
              plain.remove(chosen!)
            }
            waiting.splice(waiting.indexOf(chosen!), 1)
          }
      }
    }),
    { numRuns: 60 },
  )
})
