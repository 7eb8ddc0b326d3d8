import { Hono } from 'hono'
import { expect, test, vi } from 'vitest'
import { AppError } from '../../errors.ts'
import type { Job } from '../../jobs/job.ts'
import { watchSnapshots } from '../../jobs/watch.ts'
import { streamJob } from './job-stream.ts'

/** What a client reads of a stream whose job cannot be watched. */
async function readFailing(error: Error): Promise<string> {
  let left = 0
  const app = new Hono().get('/', (c) =>
    streamJob(c, {
      // biome-ignore lint/correctness/useYield: it fails before there is anything to see.
      watch: async function* (): AsyncGenerator<Job> {
        throw error
      },
      describe: () => {
        throw new Error('There is no job to describe.')
      },
      waiter: {
        async detach() {},
        async leave() {
          left += 1
        },
      },
    }),
  )
  const text = await (await app.request('/')).text()
  expect(left).toBe(1)
  return text
}

test('a failure of the server is one error event, and its text stays private', async () => {
  const text = await readFailing(new Error('password of the store'))
  expect(text.match(/^event: .*$/gm)).toEqual(['event: error'])
  expect(text).toContain('"code":"internal"')
  expect(text).not.toContain('password')
})

test('an error for callers is told', async () => {
  expect(await readFailing(new AppError('overloaded', 'The job store cannot be reached.'))).toContain(
    '"code":"overloaded"',
  )
})

/** A job that changes when the test says so, and the stream of a client that waits for it. */
async function openStream() {
  const listeners = new Set<() => void>()
  let job = { id: 'j', state: 'running' } as Job
  const left = vi.fn(async () => {})
  const app = new Hono().get('/', (c) =>
    streamJob(c, {
      watch: (signal) => watchSnapshots({ current: () => job, listeners, signal }),
      describe: ({ state, progress }) => ({ state, job_id: 'j', step: progress?.step }),
      waiter: { detach: async () => {}, leave: left },
    }),
  )
  const { body } = await app.request('/')
  const reader = (body as ReadableStream<Uint8Array>).getReader()
  return {
    left,
    listeners,
    change(fields: Partial<Job>) {
      job = { ...job, ...fields }
      for (const listener of listeners) listener()
    },
    read: async () => new TextDecoder().decode((await reader.read()).value),
    cancel: () => reader.cancel(),
  }
}
const settle = () => new Promise((resolve) => setImmediate(resolve))

test('a client that reads nothing is sent nothing more than the next event, and then the latest', async () => {
  const { change, read, left } = await openStream()
  await settle()
  for (let step = 1; step <= 100; step += 1) {
    change({ progress: { step, steps: 100 } })
    await settle()
  }
  change({ state: 'succeeded' })
  const texts = []
  for (let text = await read(); text; text = await read()) texts.push(text)
  expect(texts.length).toBeLessThan(5)
  expect(texts.at(-1)).toContain('event: result')
  expect(left).toHaveBeenCalledOnce()
})

test.each(['before it reads', 'while it waits'])('a client that goes %s leaves its job', async (when) => {
  const { read, cancel, left, listeners } = await openStream()
  if (when === 'while it waits') expect(await read()).toContain('event: progress')
  await settle()
  await cancel()
  await settle()
  expect(left).toHaveBeenCalledOnce()
  expect(listeners.size).toBe(0)
})
