import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Sorted } from './sorted.ts'

const ascending = (a: number, b: number) => a - b

test('holds what a plain array holds, in order', () => {
  // Several chunks, which split and empty.
  const runs = fc.array(fc.record({ from: fc.nat(3000), length: fc.nat(900), adds: fc.boolean() }), {
    maxLength: 12,
  })
  fc.assert(
    fc.property(runs, fc.nat(4000), (steps, key) => {
      const sorted = new Sorted<number>(ascending)
      const model = new Set<number>()
      for (const { from, length, adds } of steps)
        for (let index = 0; index < length; index += 1) {
          // In no order, and each number once.
          const item = from + ((index * 7) % length)
          if (adds && !model.has(item)) {
            model.add(item)
            sorted.add(item)
          } else if (!adds) {
            model.delete(item)
            sorted.remove(item)
          }
        }
      const items = [...model].sort(ascending)
      expect(sorted.first()).toBe(items[0])
      expect([...sorted.ascending()]).toEqual(items)
      expect([...sorted.descending()]).toEqual([...items].reverse())
      expect([...sorted.descending(key)]).toEqual(items.filter((item) => item < key).reverse())
    }),
    { numRuns: 60 },
  )
})

test.each([1000, 100_000])('takes few comparisons with %i items', (count) => {
  let compared = 0
  const sorted = new Sorted<number>((a, b) => {
    compared += 1
    return a - b
  })
  for (let item = 0; item < count; item += 1) sorted.add(item)
  const costOf = (act: () => unknown) => {
    compared = 0
    act()
    return compared
  }
  // Three for the places of chunks that are not full.
  const most = Math.log2(count) + 3
  expect(costOf(() => sorted.add(count / 2 + 0.5))).toBeLessThanOrEqual(most)
  expect(costOf(() => sorted.remove(count / 3))).toBeLessThanOrEqual(most)
  expect(costOf(() => sorted.descending(count / 4).next())).toBeLessThanOrEqual(most)
  expect(costOf(() => sorted.first())).toBe(0)
})
