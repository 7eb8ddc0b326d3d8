import sharp from 'sharp'
import { beforeAll, describe, expect, test } from 'vitest'
import { makeImage, makePng } from '../../../test/support/pictures.ts'
import { ANONYMOUS } from '../../auth/caller.ts'
import { createLinks } from '../../images/links.ts'
import { createMemoryImages } from '../../images/memory.ts'
import { createOutgoing } from '../../images/outgoing.ts'
import { createPreviews } from '../../images/previews.ts'
import type { Job } from '../../jobs/job.ts'
import { createProgress, describeJob, handleResult, imageAnswer, pictureResult } from './image-answer.ts'

const JOB: Job = {
  id: 'job-1',
  imageId: 'image-1',
  owner: 'alice',
  target: 'gpu',
  request: { prompt: 'a fox', seed: 7, width: 512, num_inference_steps: 20 },
  state: 'queued',
  createdAt: 0,
  deadlineAt: 900_000,
}
const RUNNING: Job = { ...JOB, state: 'running', startedAt: 40 }
const links = createLinks({ publicUrl: () => 'https://mcp.example.com', keys: () => ['k'.repeat(32)] })

describe('a job in the flat shape', () => {
  test('a handle says what is known and nothing else', () => {
    expect(describeJob({ ...JOB, position: 3 }, links.absolute)).toEqual({
      state: 'queued',
      job_id: 'job-1',
      seed: 7,
      width: 512,
      steps: 20,
      position: 3,
      target: 'gpu',
    })
  })

  test('tells when the picture should be there', () => {
    const { eta_ms } = describeJob({ ...RUNNING, expectedAt: performance.now() + 5000 }, links.absolute)
    expect(eta_ms).toBeGreaterThan(4000)
    expect(eta_ms).toBeLessThanOrEqual(5000)
    expect(describeJob({ ...RUNNING, expectedAt: 1 }, links.absolute).eta_ms).toBe(0)
  })

  test('fits its own schema in every state', () => {
    const error = { code: 'cancelled', message: 'x' } as const
    for (const job of [JOB, RUNNING, { ...RUNNING, state: 'cancelled', endedAt: 50, error } as Job])
      expect(imageAnswer.strict().safeParse(describeJob(job, links.absolute)).error).toBeUndefined()
  })
})

describe('progress', () => {
  test('only ever grows, from the queue to the last step, and says each thing once', () => {
    const progressOf = createProgress()
    const told = [
      { ...JOB, position: 2 },
      { ...JOB, position: 1 },
      { ...JOB, position: 1 },
      RUNNING,
      { ...RUNNING, progress: { step: 1, steps: 2 } },
      { ...RUNNING, progress: { step: 2, steps: 2 } },
      { ...RUNNING, state: 'succeeded' as const },
    ].flatMap((job) => progressOf(job) ?? [])
    expect(told).toEqual([
      { progress: 0.5, message: 'In the queue, position 2' },
      { progress: 0.75, message: 'In the queue, position 1' },
      { progress: 0.875, message: 'Started' },
      { progress: 1, total: 2, message: 'Step 1 of 2' },
      { progress: 2, total: 2, message: 'Step 2 of 2' },
    ])
  })
})

test('a handle tells the model how to go on', () => {
  const { content } = handleResult({ ...JOB, position: 1, expectedAt: performance.now() + 11_500 }, { links })
  expect(content[0]).toMatchObject({
    text: expect.stringMatching(
      /In the queue, position 1, ready in about 12 s\. Call get_image_job with job_id "job-1"/,
    ),
  })
})

describe('a finished picture', () => {
  const images = createMemoryImages({ maxBytes: 2 ** 24 })
  const parts = { images, links, previews: createPreviews({ images }), outgoing: createOutgoing(images) }
  const context = { caller: ANONYMOUS, signal: new AbortController().signal }
  let done: Job

  beforeAll(async () => {
    const png = await makePng({ width: 1200, height: 600, noise: true })
    const record = await images.put(
      makeImage(png, {
        id: 'image-1',
        width: 1200,
        height: 600,
        created_at: new Date().toISOString(),
        expires_at: new Date(Date.now() + 60_000).toISOString(),
      }),
    )
    done = { ...RUNNING, state: 'succeeded', endedAt: 1000, image: record }
  })
  const blocks = async (inlineMaxBytes: number) => {
    const { content } = await pictureResult(done, { ...parts, inlineMaxBytes }, context)
    return {
      content,
      shown: content.find(({ type }) => type === 'image') as { data: string; mimeType: string } | undefined,
    }
  }

  test('comes inline when it fits', async () => {
    const { content, shown } = await blocks(2 ** 24)
    expect(content.map(({ type }) => type)).toEqual(['text', 'image', 'resource_link'])
    expect(shown?.mimeType).toBe('image/png')
  })

  test('else as a WebP of at most 1024 pixels that fits, and the link leads to all of it', async () => {
    const { content, shown } = await blocks(500_000)
    const bytes = Buffer.from(shown?.data ?? '', 'base64')
    expect(bytes.byteLength).toBeLessThanOrEqual(500_000)
    expect(await sharp(bytes).metadata()).toMatchObject({ format: 'webp', width: 1024, height: 512 })
    expect(content[2]).toMatchObject({
      uri: expect.stringMatching(/^https:\/\/mcp\.example\.com\/images\/image-1\?exp=/),
    })
  })

  test('and as a link alone where nothing may be shown', async () => {
    const { content, shown } = await blocks(0)
    expect(shown).toBeUndefined()
    expect(content[0]).toMatchObject({ text: expect.stringContaining('Too large to be shown here') })
  })

  test('that was deleted meanwhile says how to make it again', async () => {
    const image = { ...done.image!, id: 'image-2' }
    for (const inlineMaxBytes of [1, 2 ** 24]) {
      const gone = pictureResult({ ...done, image }, { ...parts, inlineMaxBytes }, context)
      await expect(gone).rejects.toMatchObject({
        code: 'not_found',
        message: expect.stringMatching(/seed 7/),
      })
    }
  })
})
