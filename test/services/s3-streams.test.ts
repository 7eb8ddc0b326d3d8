/** Pictures that a real S3 store sends piece by piece. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ImageStore } from '../../src/images/image.ts'
import { createS3Images } from '../../src/images/s3/s3.ts'
import { makeImage, makePng } from '../support/pictures.ts'
import { findPython, type Seaweedfs, startSeaweedfs } from '../support/seaweedfs.ts'
import { settingsOf } from './s3/suite.ts'

describe.skipIf(findPython() === undefined)('a picture in S3 piece by piece', () => {
  let seaweedfs: Seaweedfs
  let store: ImageStore
  let png: Buffer
  const expires_at = new Date(Date.now() + 600_000).toISOString()
  const image = () => makeImage(png, { created_at: new Date().toISOString(), expires_at })

  beforeAll(async () => {
    seaweedfs = await startSeaweedfs()
    store = await createS3Images({ ...settingsOf(seaweedfs), bucket: await seaweedfs.createBucket() })
    png = await makePng({ width: 1600, height: 1600, noise: true })
    await store.put(image())
  }, 300_000)
  afterAll(async () => {
    await store?.close()
    await seaweedfs?.stop()
  })

  test('is the same, byte for byte, without its record', async () => {
    const stream = await store.stream?.(image().record)
    expect(Buffer.from(await new Response(stream).arrayBuffer()).equals(png)).toBe(true)
  })

  test('may be left in the middle', async () => {
    for (let n = 0; n < 20; n += 1) {
      const reader = (await store.stream?.(image().record))!.getReader()
      for (let read = 0; read < n % 3; read += 1) await reader.read()
      await reader.cancel()
    }
    expect(await store.head('picture-1')).toBeDefined()
  })

  test('is undefined when it is gone', async () => {
    const { record } = image()
    expect(await store.stream?.({ ...record, id: 'never-there' })).toBeUndefined()
  })
})
