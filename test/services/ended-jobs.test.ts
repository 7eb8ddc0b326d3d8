/** What ended jobs take in Valkey and in memory, by measurement, and what a full Valkey does. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { REMEMBERED } from '../../src/jobs/ended.ts'
import type { Submission } from '../../src/jobs/valkey/book/book.ts'
import { imageFields } from '../../src/jobs/valkey/book/rows.ts'
import { ENDED_JOB_BYTES, JOBS_BYTES, RESERVE_BYTES, WAITING_JOB_BYTES } from '../../src/valkey/memory.ts'
import { useMeteredBook } from '../support/metered-book.ts'
import { findValkeyServer } from '../support/valkey.ts'

const JOBS = 1000
/** Prompts of the largest size: as JSON, and as UTF-8. */
const PROMPTS = { 'control characters': '\u0001'.repeat(2000), Chinese: '狐'.repeat(2000) }
const SIZES = {
  seed: '4294967295',
  width: '2048',
  height: '2048',
  num_inference_steps: '200',
  guidance_scale: '7.5',
}

/** Valkey's count of all that it uses holds buffers and tables besides, which grow by leaps. */
const USED_BESIDES = 1.25

function expectWithin(bytes: number, { ofKeys, used }: { ofKeys: number; used: number }): void {
  expect(ofKeys).toBeLessThan(bytes)
  expect(used).toBeLessThan(bytes * USED_BESIDES)
}

describe.skipIf(findValkeyServer() === undefined)('in Valkey', () => {
  const it = useMeteredBook()

  const requestOf = (prompt: string) =>
    JSON.stringify({
      ...(prompt.length < 2000 ? { prompt } : { prompt, negative_prompt: prompt }),
      ...{ seed: 4294967295, width: 2048, height: 2048, num_inference_steps: 200, guidance_scale: 7.5 },
    })
  /** As a server submits it: with hashes of their real length. */
  const submission = (prompt: string, given: Partial<Submission> = {}): Partial<Submission> => ({
    owner: 'https://login.example.com/realms/pictures|7f0c4f9e-6a3e-4d0c-9c55-0f9d7b0c1d2e',
    request: requestOf(prompt),
    sizes: SIZES,
    requestHash: randomUUID() + randomUUID().slice(0, 7),
    key: randomUUID() + randomUUID().slice(0, 7),
    requestId: randomUUID(),
    ...given,
  })

  /** The first job of each kind brings the scripts and the keys that all share. */
  const first = async () => {
    const { id, owner } = await it.admit(submission('a'))
    await it.book.event({ id, owner, event: 'cancel' })
    await it.book.finish({ id, target: 'gpu', run: 0, event: 'release' })
  }

  /** What all jobs take, each: by Valkey's own count of their keys, and by what it took from the system. */
  async function taken(act: () => Promise<unknown>): Promise<{ ofKeys: number; used: number }> {
    const used = async () => Number(/used_memory:(\d+)/.exec(await it.client.info('memory'))?.[1])
    const ofKeys = async () => {
      let sum = 0
      for (const key of await it.client.keys('*'))
        if (key !== 'meter') sum += (await it.client.memory('USAGE', key, 'SAMPLES', 0)) ?? 0
      return sum
    }
    await first()
    await it.client.del('meter')
    const before = [await ofKeys(), await used()] as const
    await act()
    await it.client.del('meter')
    return { ofKeys: ((await ofKeys()) - before[0]) / JOBS, used: ((await used()) - before[1]) / JOBS }
  }

  describe.each(Object.entries(PROMPTS))('with prompts of %s', (_, prompt) => {
    test('a job that was cancelled takes no more than docs/scaling.md says', async () => {
      await it.open(0)
      const { ofKeys, used } = await taken(() =>
        it.many(JOBS, async () => {
          const id = randomUUID()
          const { owner } = await it.admit(submission(prompt, { id, waiter: id }))
          await it.book.event({ id, owner, event: 'cancel' })
          await it.book.leave({ id, waiter: id })
        }),
      )
      expectWithin(ENDED_JOB_BYTES.without, { ofKeys, used })
    })

    test('so does one with a picture', async () => {
      await it.open(1)
      const { ofKeys, used } = await taken(async () => {
        for (let count = 0; count < JOBS; count += 1) {
          const id = randomUUID()
          const { imageId, owner } = await it.admit(submission(prompt, { id, waiter: id, seeded: true }))
          await it.start(id)
          const now = new Date().toISOString()
          const image = imageFields({
            ...{ id: imageId, job_id: id, owner, media_type: 'image/png', bytes: 8_000_000, prompt },
            ...{ width: 2048, height: 2048, seed: 4294967295, num_inference_steps: 200, guidance_scale: 7.5 },
            ...{ model: 'stabilityai/stable-diffusion-xl-base-1.0', target: 'gpu', inference_ms: 123456 },
            ...{ created_at: now, expires_at: now },
          })
          await it.book.finish({ id, target: 'gpu', run: 1, event: 'finish', image })
          await it.book.leave({ id, waiter: id })
        }
      })
      expectWithin(ENDED_JOB_BYTES.withPicture, { ofKeys, used })
    })
  })

  test('the page on scaling has the figures that are measured here', () => {
    const page = readFileSync(new URL('../../docs/scaling.md', import.meta.url), 'utf8')
    const kib = (bytes: number) => `${bytes / 1024} KiB`
    expect(page).toContain(`| waits or runs, prompt of 200 characters | ${kib(WAITING_JOB_BYTES.usual)} |`)
    expect(page).toContain(`| waits or runs, longest prompts | ${kib(WAITING_JOB_BYTES.longest)} |`)
    expect(page).toContain(`| has ended with a picture | ${kib(ENDED_JOB_BYTES.withPicture)} |`)
    expect(page).toContain(`| has ended without one | ${kib(ENDED_JOB_BYTES.without)} |`)
    // What is remembered by default fits, with the reserve and jobs that wait.
    expect(
      REMEMBERED * ENDED_JOB_BYTES.withPicture + RESERVE_BYTES + 500 * WAITING_JOB_BYTES.longest,
    ).toBeLessThan(JOBS_BYTES)
  })

  test.each([
    ['usual', 'a fox '.repeat(33)],
    ['longest', PROMPTS['control characters']],
  ] as const)(
    'a job that waits, with prompts of the %s size, takes no more than docs/scaling.md says',
    async (size, prompt) => {
      await it.open(0)
      const { ofKeys, used } = await taken(() => it.many(JOBS, () => it.admit(submission(prompt))))
      expectWithin(WAITING_JOB_BYTES[size], { ofKeys, used })
    },
  )
})
