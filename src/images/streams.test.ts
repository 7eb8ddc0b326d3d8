import { readdirSync, readlinkSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeImage, makePng } from '../../test/support/pictures.ts'
import { createFilesystemImages } from './filesystem/filesystem.ts'
import type { ImageStore } from './image.ts'
import { createS3Client } from './s3/client.ts'

const soon = { created_at: new Date().toISOString(), expires_at: new Date(Date.now() + 60_000).toISOString() }
const bytesOf = async (stream: ReadableStream<Uint8Array> | undefined) =>
  Buffer.from(await new Response(stream).arrayBuffer())

describe('a picture on disk piece by piece', () => {
  let directory: string
  let store: ImageStore
  let png: Buffer
  const image = () => makeImage(png, soon)
  const stream = () => store.stream?.(image().record)

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'streams-test-'))
    store = await createFilesystemImages({ directory, maxBytes: 2 ** 24 })
    png = await makePng({ width: 300, height: 300, noise: true })
    await store.put(image())
  })
  afterAll(async () => {
    await store.close()
    await rm(directory, { recursive: true })
  })

  /** Files below the folder that this process has open. */
  const open = () =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(directory)
      } catch {
        return false
      }
    }).length

  test('is the same, byte for byte, in pieces much smaller than the picture', async () => {
    expect((await bytesOf(await stream())).equals(png)).toBe(true)
    const reader = (await stream())?.getReader()
    expect((await reader?.read())?.value?.length).toBeLessThanOrEqual(65_536)
    await reader?.cancel()
  })

  test.skipIf(process.platform !== 'linux')('leaves no file open, however its reader ends', async () => {
    await bytesOf(await stream())
    for (let n = 0; n < 50; n += 1) {
      const reader = (await stream())!.getReader()
      for (let read = 0; read < n % 4; read += 1) await reader.read()
      // Also in the middle of reading.
      const reading = reader.read().catch(() => {})
      await reader.cancel()
      await reading
    }
    expect(open()).toBe(0)
  })

  test('goes on when the picture is deleted meanwhile, and is gone after that', async () => {
    const begun = await stream()
    await store.delete('picture-1')
    expect((await bytesOf(begun)).equals(png)).toBe(true)
    expect(await stream()).toBeUndefined()
    await store.put(image())
  })
})

describe('an object of S3 as it arrives', () => {
  /** A client whose store gives these answers, one after the other. */
  function create(...answers: (() => Response | Promise<Response>)[]) {
    let asked = 0
    const client = createS3Client({
      ...{ bucketUrl: 'http://s3.example/pictures', region: 'us-east-1', timeoutMs: 200 },
      ...{ accessKey: () => 'access', secretKey: () => 'secret' },
      fetch: (async (_: unknown, { signal }: RequestInit) => {
        const answer = answers[asked] ?? answers.at(-1)
        asked += 1
        const late = new Promise<never>((_, reject) =>
          signal?.addEventListener('abort', () => reject(signal.reason)),
        )
        return await Promise.race([answer?.(), late])
      }) as typeof fetch,
    })
    return { asked: () => asked, open: () => client.open({ method: 'GET', key: 'a', accept: [404] }) }
  }
  const failed = (status: number, code: string) => () =>
    new Response(`<Error><Code>${code}</Code></Error>`, { status })

  test('is retried while there is no answer, and not in the middle of one', async () => {
    const { open, asked } = create(
      failed(503, 'SlowDown'),
      () => new Promise(() => {}),
      () => new Response('picture'),
    )
    expect(String(await bytesOf(await open()))).toBe('picture')
    expect(asked()).toBe(3)
  })

  test('may take its time once it has begun', async () => {
    let controller: ReadableStreamDefaultController | undefined
    const { open } = create(
      () =>
        new Response(
          new ReadableStream({
            start(given) {
              controller = given
            },
          }),
        ),
    )
    const stream = await open()
    // Longer than an answer may take to begin.
    await new Promise((resolve) => setTimeout(resolve, 300))
    controller?.enqueue(Buffer.from('late'))
    controller?.close()
    expect(String(await bytesOf(stream))).toBe('late')
  })

  test('is undefined where it is gone, and fails where it is refused', async () => {
    expect(await create(failed(404, 'NoSuchKey')).open()).toBeUndefined()
    await expect(create(failed(403, 'AccessDenied')).open()).rejects.toMatchObject({ code: 'AccessDenied' })
    await expect(create(failed(404, 'NoSuchBucket')).open()).rejects.toMatchObject({ status: 404 })
  })
})
