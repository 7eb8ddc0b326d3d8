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
