import { describe, expect, test } from 'vitest'
import { createFairQueue, type FairQueue } from './fair-queue.ts'

/** Items written "a1": caller a, its first. */
function queueOf(...items: string[]): FairQueue<string> {
  const queue = createFairQueue<string>()
  for (const item of items) queue.push(item, { caller: item[0] as string, cost: 1 })
  return queue
}
const drain = (queue: FairQueue<string>) => {
  const order: string[] = []
  for (let item = queue.shift(); item; item = queue.shift()) order.push(item)
  return order
}

describe('order', () => {
  test('one caller: first come, first served', () => {
    expect(drain(queueOf('a1', 'a2', 'a3'))).toEqual(['a1', 'a2', 'a3'])
  })

  test('callers take turns, however many items each has', () => {
    expect(drain(queueOf('a1', 'a2', 'a3', 'b1', 'b2', 'c1'))).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3'])
  })

  test('a newcomer waits for at most one item of each backlogged caller', () => {
    const backlog = ['a', 'b', 'c'].flatMap((caller) =>
      Array.from({ length: 100 }, (_, index) => caller + index),
    )
    const queue = queueOf(...backlog)
    for (let turn = 0; turn < 50; turn += 1) queue.shift()
    queue.push('z', { caller: 'z', cost: 1 })
    expect(queue.inOrder().indexOf('z')).toBeLessThanOrEqual(3)
  })

  test('who was served just now does not jump ahead of those who wait', () => {
    const queue = queueOf('a1', 'b1', 'b2')
    expect(queue.shift()).toBe('a1')
    queue.push('a2', { caller: 'a', cost: 1 })
    expect(drain(queue)).toEqual(['b1', 'b2', 'a2'])
  })

  test('being idle earns no credit', () => {
    const queue = queueOf('a1', 'a2', 'a3', 'a4')
    queue.shift()
    queue.shift()
    queue.push('b1', { caller: 'b', cost: 1 })
    queue.push('b2', { caller: 'b', cost: 1 })
    expect(drain(queue)).toEqual(['b1', 'a3', 'b2', 'a4'])
  })

  test('costs count: small items of one caller pass a large one of another', () => {
    const queue = createFairQueue<string>()
    for (const item of ['a1', 'a2']) queue.push(item, { caller: 'a', cost: 4 })
    for (const item of ['b1', 'b2', 'b3', 'b4', 'b5']) queue.push(item, { caller: 'b', cost: 1 })
    expect(drain(queue)).toEqual(['a1', 'b1', 'b2', 'b3', 'b4', 'a2', 'b5'])
  })

  test('inOrder tells what shift does', () => {
    const items = ['a1', 'a2', 'b1', 'c1', 'c2', 'a3']
    expect(queueOf(...items).inOrder()).toEqual(drain(queueOf(...items)))
  })

  test('a busy period that ended leaves no debts', () => {
    const queue = queueOf('a1', 'a2', 'a3')
    drain(queue)
    queue.push('b1', { caller: 'b', cost: 1 })
    queue.push('a4', { caller: 'a', cost: 1 })
    queue.push('b2', { caller: 'b', cost: 1 })
    expect(drain(queue)).toEqual(['b1', 'a4', 'b2'])
  })
})

describe('remove', () => {
  test('takes an item out of its turn, without cost to its caller', () => {
    const queue = queueOf('a1', 'a2', 'b1')
    expect(queue.remove('a1')).toBe(true)
    expect(queue.remove('a1')).toBe(false)
    expect(queue.size).toBe(2)
    expect(drain(queue)).toEqual(['a2', 'b1'])
  })
})

describe('beforeNew', () => {
  test('is the cost of what would go before a new item', () => {
    const queue = queueOf('a1', 'a2', 'a3', 'b1')
    expect(queue.beforeNew('a').cost).toBe(4)
    expect(queue.beforeNew('b').cost).toBe(3)
    expect(queue.beforeNew('z').cost).toBe(2)
  })

  test('agrees with the order that follows', () => {
    for (const caller of ['a', 'b', 'z']) {
      const queue = queueOf('a1', 'a2', 'a3', 'b1', 'c1', 'c2')
      queue.shift()
      const ahead = queue.beforeNew(caller).cost
      queue.push('new', { caller, cost: 1 })
      expect(queue.inOrder().indexOf('new')).toBe(ahead)
    }
  })
})

describe('beforeFirst', () => {
  test('is the cost of what goes before the first waiting item of a caller', () => {
    const queue = queueOf('a1', 'a2', 'b1', 'c1')
    expect(['a', 'b', 'c', 'z'].map((caller) => queue.beforeFirst(caller).cost)).toEqual([0, 1, 2, 0])
    queue.shift()
    expect(['a', 'b', 'c'].map((caller) => queue.beforeFirst(caller).cost)).toEqual([2, 0, 1])
  })
})
