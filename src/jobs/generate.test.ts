import { describe, expect, test } from 'vitest'
import { generate } from './generate.ts'
import type { Job, Jobs, Waiter } from './job.ts'

const QUEUED: Job = {
  id: 'job-1',
  imageId: 'image-1',
  owner: 'alice',
  target: 'gpu',
  request: { prompt: 'a fox', seed: 7 },
  state: 'queued',
  createdAt: 0,
  deadlineAt: 900_000,
}
const RUNNING: Job = { ...QUEUED, state: 'running' }
const SUCCEEDED: Job = { ...QUEUED, state: 'succeeded' }
const FAILED: Job = { ...QUEUED, state: 'failed', error: { code: 'runtime_failed', message: 'x' } }
const CALL = { request: { prompt: 'a fox' }, caller: { id: 'alice' }, submission: { requestId: 'r' } }

/** Jobs whose one waiter tells these snapshots, then waits for ever or, with `over`, ends. */
function createFakeJobs(snapshots: readonly Job[], { over = false } = {}) {
  const calls: string[] = []
  const waiter: Waiter = {
    job: snapshots[0] as Job,
    joined: false,
    async *watch(signal) {
      calls.push('watch')
      yield* snapshots
      if (over || signal?.aborted) return
      await new Promise((resolve) => signal?.addEventListener('abort', resolve))
    },
    async detach() {
      calls.push('detach')
    },
    async leave() {
      calls.push('leave')
    },
  }
  const jobs: Pick<Jobs, 'submit'> = {
    async submit(...submitted) {
      expect(submitted).toEqual([CALL.request, CALL.caller, CALL.submission])
      return waiter
    },
  }
  return { jobs, calls }
}

describe('generate', () => {
  test.each([SUCCEEDED, FAILED])('returns a job that $state, and leaves without a handle', async (ended) => {
    const { jobs, calls } = createFakeJobs([QUEUED, RUNNING, ended])
    const seen: Job[] = []
    const job = await generate({ ...CALL, jobs, budgetMs: 60_000, onChange: (now) => seen.push(now) })
    expect(job).toBe(ended)
    expect(seen).toEqual([QUEUED, RUNNING, ended])
    expect(calls).toEqual(['watch', 'leave'])
  })

  test('hands out the handle when the budget is used up', async () => {
    const { jobs, calls } = createFakeJobs([QUEUED, RUNNING])
    expect(await generate({ ...CALL, jobs, budgetMs: 5 })).toBe(RUNNING)
    expect(calls).toEqual(['watch', 'detach', 'leave'])
  })

  test('hands out the handle when the server that it watches stops', async () => {
    const { jobs, calls } = createFakeJobs([QUEUED], { over: true })
    expect(await generate({ ...CALL, jobs, budgetMs: 60_000 })).toBe(QUEUED)
    expect(calls).toEqual(['watch', 'detach', 'leave'])
  })

  test('does not wait at all without a budget', async () => {
    const { jobs, calls } = createFakeJobs([QUEUED, RUNNING])
    const seen: Job[] = []
    const job = await generate({ ...CALL, jobs, budgetMs: 0, onChange: (now) => seen.push(now) })
    expect(job).toBe(QUEUED)
    expect(seen).toEqual([QUEUED])
    expect(calls).toEqual(['detach', 'leave'])
  })

  test('leaves without a handle when the caller is gone', async () => {
    const { jobs, calls } = createFakeJobs([QUEUED])
    const gone = new AbortController()
    const call = generate({
      ...CALL,
      jobs,
      budgetMs: 60_000,
      signal: gone.signal,
      onChange: () => gone.abort(new Error('closed')),
    })
    await expect(call).rejects.toThrow('closed')
    expect(calls).toEqual(['watch', 'leave'])
  })

  test('leaves even when nothing can be detached', async () => {
    const { jobs, calls } = createFakeJobs([QUEUED], { over: true })
    const submit: typeof jobs.submit = async (...args) => ({
      ...(await jobs.submit(...args)),
      detach: async () => {
        throw new Error('no connection')
      },
    })
    await expect(generate({ ...CALL, jobs: { submit }, budgetMs: 60_000 })).rejects.toThrow('no connection')
    expect(calls).toEqual(['watch', 'leave'])
  })
})
