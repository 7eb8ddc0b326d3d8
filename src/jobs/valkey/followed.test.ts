import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { eventually } from '../../../test/support/eventually.ts'
import type { Job } from '../job.ts'
import { createFollowedJobs } from './followed.ts'

const jobOf = (id: string, more: Partial<Job> = {}) => ({ id, state: 'queued', position: 1, ...more }) as Job

/** Follows jobs of a book that holds `jobs`; its reads are listed, and may be held up. */
function follow(jobs: Map<string, Job>) {
  const reads: (readonly string[])[] = []
  let reading = 0
  let mostAtOnce = 0
  let failures = 0
  const followed = createFollowedJobs({
    async read(ids) {
      reads.push(ids)
      reading += 1
      mostAtOnce = Math.max(mostAtOnce, reading)
      await turn()
      reading -= 1
      if (failures-- > 0) throw new Error('away')
      return new Map(ids.flatMap((id) => (jobs.has(id) ? [[id, jobs.get(id)!] as const] : [])))
    },
  })
  const begin = (id: string) => {
    const following = followed.follow(id, { isOver: () => false })
    following.begin(jobs.get(id)!)
    return following
  }
  return {
    followed,
    begin,
    reads,
    mostAtOnce: () => mostAtOnce,
    failNext: (count: number) => {
      failures = count
    },
  }
}

/** Resolves when nothing is being read any more. */
const idle = async (reads: readonly unknown[]) => {
  for (let seen = -1; seen !== reads.length; ) {
    seen = reads.length
    for (let turns = 0; turns < 10; turns += 1) await turn()
  }
}

describe('jobs that are followed', () => {
  test('are read again after a reconnect 200 at a time, one read after the other', async () => {
    const jobs = new Map(Array.from({ length: 1000 }, (_, at) => [`${at}`, jobOf(`${at}`)]))
    const { followed, begin, reads, mostAtOnce } = follow(jobs)
    for (const id of jobs.keys()) begin(id)
    followed.refreshAll()
    followed.refreshAll()
    await idle(reads)
    expect(reads.map((ids) => ids.length)).toEqual([200, 200, 200, 200, 200])
    expect(mostAtOnce()).toBe(1)
    followed.stop()
  })

  const heard = (...states: Job['state'][]) => ({
    changes: states.map((state) => ({ target: 'gpu', id: 'a', state })),
    steps: [],
  })

  test('are not read where the submission brought all there is', async () => {
    const running = jobOf('a', { state: 'running' })
    const { followed, reads } = follow(new Map([['a', running]]))
    const following = followed.follow('a', { isOver: () => false })
    followed.hear(heard('queued', 'running'))
    following.begin(running)
    // Its worker says so once more when it starts; and messages may come late.
    followed.hear(heard('running', 'queued'))
    await idle(reads)
    expect(reads).toEqual([])
    followed.stop()
  })

  test('are read where they changed while the answer to the submission was on its way', async () => {
    const { followed, reads } = follow(new Map([['a', jobOf('a', { state: 'succeeded' })]]))
    const following = followed.follow('a', { isOver: () => false })
    followed.hear(heard('queued', 'running', 'succeeded'))
    following.begin(jobOf('a', { state: 'running' }))
    await eventually(() => expect(following.job).toMatchObject({ state: 'succeeded' }), 5000)
    expect(reads).toEqual([['a']])
    followed.stop()
  })

  test('wake nobody where nothing changed for whoever follows', async () => {
    const jobs = new Map([
      ['a', jobOf('a', { position: 3, expectedAt: 10_000 })],
      ['b', jobOf('b', { position: 4, expectedAt: 20_000 })],
    ])
    const { followed, begin, reads } = follow(jobs)
    const [a, b] = [begin('a'), begin('b')]
    const before = a.job
    jobs.set('a', jobOf('a', { position: 3, expectedAt: 10_001 }))
    jobs.set('b', jobOf('b', { position: 3, expectedAt: 15_000 }))
    followed.refreshAll()
    await idle(reads)
    expect(a.job).toBe(before)
    expect(b.job).toMatchObject({ position: 3, expectedAt: 15_000 })
    followed.stop()
  })

  test('are read again after a read that failed', async () => {
    const jobs = new Map([['a', jobOf('a')]])
    const { followed, begin, reads, failNext } = follow(jobs)
    const following = begin('a')
    failNext(1)
    jobs.set('a', jobOf('a', { state: 'running' }))
    followed.refresh('a')
    await eventually(() => expect(following.job).toMatchObject({ state: 'running' }))
    expect(reads).toEqual([['a'], ['a']])
    followed.stop()
  })
})
