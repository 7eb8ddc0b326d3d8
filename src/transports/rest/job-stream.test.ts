import { Hono } from 'hono'
import { expect, test } from 'vitest'
import { AppError } from '../../errors.ts'
import type { Job } from '../../jobs/job.ts'
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
