import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readTarget } from './target.ts'

let answer: Record<string, unknown>
const server = createServer((_, response) => response.end(JSON.stringify({ targets: [answer] })))
let url: string
beforeEach(async () => {
  answer = { target: 'gpu', concurrency: 4, queue_limit: 8 }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterEach(() => new Promise((resolve) => server.close(resolve)))

test('the replicas of a target are those whose slots count', async () => {
  const replicas = ['ready', 'busy', 'ejected', 'starting'].map((state) => ({ state, slots: 2 }))
  answer = { ...answer, replicas }
  expect(await readTarget({ url })).toEqual({ name: 'gpu', concurrency: 4, queue: 8, replicas: 2 })
})

test('a target of one address tells of none', async () => {
  expect(await readTarget({ url })).toEqual({ name: 'gpu', concurrency: 4, queue: 8 })
})
