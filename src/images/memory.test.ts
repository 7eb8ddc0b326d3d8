import { describe, expect, it } from 'vitest'
import { imageStoreContract } from '../../test/backends/images.ts'
import { makeImage, makePng, NOON } from '../../test/support/pictures.ts'
import { createMemoryImages } from './memory.ts'

imageStoreContract('the memory store', async (options) => createMemoryImages(options))

describe('the memory store', () => {
  const createStore = () => createMemoryImages({ maxBytes: 2 ** 20, now: () => NOON })

  it('keeps the very bytes it was given, uncopied', async () => {
    const store = createStore()
    const png = new Uint8Array(await makePng({ width: 64, height: 64 }))
    await store.put(makeImage(png))
    expect((await store.get('picture-1'))?.png).toBe(png)
  })

  it('does not keep alive a big buffer of which the picture is a slice', async () => {
    const store = createStore()
    const png = await makePng({ width: 64, height: 64 })
    const answer = Buffer.alloc(2 ** 20)
    answer.set(png, 100)
    await store.put(makeImage(answer.subarray(100, 100 + png.byteLength)))
    const stored = (await store.get('picture-1'))!.png
    expect(stored.buffer.byteLength).toBe(png.byteLength)
    expect(Buffer.compare(stored, png)).toBe(0)
  })

  it('counts the records as well: long prompts of tiny pictures do not escape the bound', async () => {
    const store = createMemoryImages({ maxBytes: 25_000, now: () => NOON })
    const png = await makePng({ width: 64, height: 64 })
    const prompt = '狐'.repeat(2000)
    for (let index = 0; index < 10; index += 1)
      await store.put(makeImage(png, { id: `picture-${index}`, prompt }))
    const { records } = await store.list(makeImage(png).record.owner, { limit: 100 })
    expect(records.length).toBe(3)
  })

  it('takes its time from the system clock unless told otherwise', async () => {
    const store = createMemoryImages({ maxBytes: 2 ** 20 })
    const png = await makePng({ width: 64, height: 64 })
    await store.put(makeImage(png, { id: 'past', expires_at: new Date(Date.now() - 1).toISOString() }))
    await store.put(makeImage(png, { id: 'future', expires_at: new Date(Date.now() + 60_000).toISOString() }))
    expect(await store.head('past')).toBeUndefined()
    expect(await store.head('future')).toBeDefined()
  })

  it('holds nothing once closed', async () => {
    const store = createStore()
    await store.put(makeImage(await makePng({ width: 64, height: 64 })))
    await store.close()
    expect(await store.get('picture-1')).toBeUndefined()
  })
})
