import { expect, test } from 'vitest'
import { createSlots } from './slots.ts'

test('slots go to takers in their order, and come back', async () => {
  const slots = createSlots(2)
  const got: string[] = []
  const take = async (name: string) => {
    const release = await slots.take()
    got.push(name)
    return release
  }
  const [a, b, c, d] = [take('a'), take('b'), take('c'), take('d')]
  const releaseA = await a
  await b
  expect(got).toEqual(['a', 'b'])
  expect(slots).toMatchObject({ free: 0, waiting: 2 })
  releaseA()
  const releaseC = await c
  releaseC()
  await d
  expect(got).toEqual(['a', 'b', 'c', 'd'])
  expect(slots).toMatchObject({ free: 0, waiting: 0 })
  for (const release of [await b, await d]) release()
  expect(slots.free).toBe(2)
})

test('a slot that is given back is not free for a newcomer while somebody waits', async () => {
  const slots = createSlots(1)
  const release = await slots.take()
  const waiting = slots.take()
  release()
  expect(slots.free).toBe(0)
  await waiting
})

test('who leaves while waiting loses the place, and nobody else does', async () => {
  const slots = createSlots(1)
  const release = await slots.take()
  const leave = new AbortController()
  const leaving = slots.take(leave.signal)
  const staying = slots.take(new AbortController().signal)
  leave.abort(new Error('left'))
  await expect(leaving).rejects.toThrow('left')
  await expect(slots.take(leave.signal)).rejects.toThrow('left')
  release()
  const last = await staying
  last()
  expect(slots).toMatchObject({ free: 1, waiting: 0 })
})

test('there may be any number of slots', async () => {
  const slots = createSlots(Number.POSITIVE_INFINITY)
  const release = await slots.take()
  release()
  expect(slots.free).toBe(Number.POSITIVE_INFINITY)
})

test('turns rotate, whatever the number of takers of each', async () => {
  const slots = createSlots(1)
  const got: string[] = []
  const take = async (turn: string, name: string) => {
    const release = await slots.take(undefined, turn)
    got.push(name)
    release()
  }
  const release = await slots.take(undefined, 'ann')
  const taken = [take('ann', 'a1'), take('ann', 'a2'), take('ann', 'a3'), take('bob', 'b1'), take('cy', 'c1')]
  expect([slots.waitingOf('ann'), slots.waitingOf('bob'), slots.waitingOf('dan')]).toEqual([3, 1, 0])
  release()
  await Promise.all(taken)
  expect(got).toEqual(['b1', 'c1', 'a1', 'a2', 'a3'])
  expect(slots).toMatchObject({ free: 1, waiting: 0 })
})

test('after a thousand takers that left in every phase all slots are free, and no turn is left', async () => {
  const slots = createSlots(2)
  await Promise.all(
    Array.from({ length: 1000 }, async (_, n) => {
      const leave = new AbortController()
      const taking = slots.take(leave.signal, `turn ${n % 7}`).then(
        async (release) => {
          if (n % 2) await Promise.resolve()
          release()
        },
        () => {},
      )
      if (n % 3 === 0) leave.abort()
      if (n % 3 === 1) await Promise.resolve()
      leave.abort()
      await taking
    }),
  )
  expect(slots).toMatchObject({ free: 2, waiting: 0 })
  expect(Array.from({ length: 7 }, (_, n) => slots.waitingOf(`turn ${n}`))).toEqual(Array(7).fill(0))
})
