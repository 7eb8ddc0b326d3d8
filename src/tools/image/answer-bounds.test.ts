import { expect, test } from 'vitest'
import { makeImage, makePng } from '../../../test/support/pictures.ts'
import type { Caller } from '../../auth/caller.ts'
import { AppError, type ErrorCode } from '../../errors.ts'
import { createLinks } from '../../images/links.ts'
import { createMemoryImages } from '../../images/memory.ts'
import { createOutgoing } from '../../images/outgoing.ts'
import type { Previews } from '../../images/previews.ts'
import type { Job } from '../../jobs/job.ts'
import { pictureResult } from './image-answer.ts'
import { readImageResource } from './resource.ts'

const ANN: Caller = { id: 'ann', scopes: new Set() }
const links = createLinks({ publicUrl: () => 'https://mcp.example.com', keys: () => ['k'.repeat(32)] })
const ALL_OF_A_CALLER = { own: 2 ** 26 }

/** A finished job of ann, and what its answer needs; previews fail with `code`. */
async function create({ code }: { code?: ErrorCode } = {}) {
  const images = createMemoryImages({ maxBytes: 2 ** 24 })
  const png = await makePng({ width: 64, height: 64, noise: true })
  const record = await images.put(
    makeImage(png, {
      ...{ id: 'image-1', owner: 'ann', created_at: new Date().toISOString() },
      expires_at: new Date(Date.now() + 60_000).toISOString(),
    }),
  )
  const job: Job = {
    ...{
      id: 'job-1',
      imageId: 'image-1',
      owner: 'ann',
      target: 'gpu',
      request: { prompt: 'a fox', seed: 7 },
    },
    ...{ state: 'succeeded', createdAt: 0, startedAt: 1, endedAt: 2, deadlineAt: 9, image: record },
  }
  const previews: Previews = {
    waiting: 0,
    async of() {
      throw new AppError(code ?? 'internal', 'no preview')
    },
  }
  const outgoing = createOutgoing(images)
  const done: (() => void)[] = []
  const onSent = (each: () => void) => void done.push(each)
  return {
    outgoing,
    sent: () => {
      for (const each of done) each()
    },
    answer: (inlineMaxBytes: number) =>
      pictureResult(
        job,
        { images, links, previews, outgoing, inlineMaxBytes },
        { caller: ANN, signal: new AbortController().signal, onSent },
      ),
    read: (options: { onSent?: typeof onSent } = { onSent }) =>
      readImageResource({
        ...{ images, outgoing, caller: ANN, uri: 'image://image-1' },
        onSent: options.onSent,
      }),
  }
}
const typesOf = ({ content }: { content: readonly { type: string }[] }) => content.map(({ type }) => type)
const textOf = ({ content }: { content: readonly object[] }) => (content[0] as { text: string }).text

test('a finished picture for whom there is no room comes as a link, and is no error', async () => {
  const { answer, outgoing } = await create()
  const release = outgoing.take({ caller: ANN }, ALL_OF_A_CALLER)
  const refused = await answer(2 ** 20)
  expect(typesOf(refused)).toEqual(['text', 'resource_link'])
  expect(textOf(refused)).toContain('too many pictures are on their way to you')
  release()
  expect(typesOf(await answer(2 ** 20))).toEqual(['text', 'image', 'resource_link'])
})

test('so does one whose preview would wait behind too many', async () => {
  const { answer } = await create({ code: 'rate_limited' })
  const refused = await answer(100)
  expect(typesOf(refused)).toEqual(['text', 'resource_link'])
  expect(textOf(refused)).toContain('too many pictures are on their way to you')
})

test('every other failure of a preview stays one', async () => {
  for (const code of ['runtime_failed', 'overloaded', 'client_left'] as const)
    await expect((await create({ code })).answer(100)).rejects.toMatchObject({ code })
})

test('an answer counts until it is sent, whatever became of it', async () => {
  for (const [code, max] of [
    [undefined, 2 ** 20] as const,
    ['too_large', 100] as const,
    ['internal', 100] as const,
  ]) {
    const { answer, outgoing, sent } = await create({ code })
    await answer(max).catch(() => {})
    expect(outgoing.bytes).toBeGreaterThan(0)
    sent()
    expect(outgoing.bytes).toBe(0)
  }
})

test('a resource counts until it is sent, is refused where there is no room, and counts nothing over stdio', async () => {
  const { read, outgoing, sent } = await create()
  expect(await read()).toMatchObject({ mimeType: 'image/png' })
  expect(outgoing.bytes).toBeGreaterThan(0)
  sent()
  expect(outgoing.bytes).toBe(0)
  outgoing.take({ caller: ANN }, ALL_OF_A_CALLER)
  await expect(read()).rejects.toMatchObject({ code: 'rate_limited' })
  expect(await read({})).toMatchObject({ mimeType: 'image/png' })
})
