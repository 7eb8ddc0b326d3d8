/** How pictures lie in the bucket, and how they are paged through. */
import { expect, it } from 'vitest'
import { HOUR_MS, makeImage, NOON } from '../../support/pictures.ts'
import { at, owner, type S3Suite } from './suite.ts'

export function objects(suite: S3Suite): void {
  const { openStore, keys } = suite

  it('keeps a picture as an object that opens as a picture, beside two names', async () => {
    const store = await openStore()
    await store.put(makeImage(suite.png))
    expect(await keys()).toEqual([
      expect.stringMatching(/^by-expiry\/\d{16}\.\d{16}\.\d+\.[0-9a-f]{64}\.picture-1$/),
      expect.stringMatching(/^by-owner\/[0-9a-f]{64}\/\d{16}\..+~\d{16}$/),
      'pictures/picture-1.png',
    ])
    await store.delete('picture-1')
    expect(await keys()).toEqual([])
  })

  it('keeps the longest prompts whole', async () => {
    const image = makeImage(suite.png, { prompt: '\u0001'.repeat(2000), negative_prompt: '🦊'.repeat(1000) })
    const store = await openStore()
    await store.put(image)
    expect(await store.head('picture-1')).toEqual(image.record)
    expect((await store.list(owner, { limit: 1 })).records).toEqual([image.record])
  })

  it('treats an object that is no picture as absent, and lets a picture take its place', async () => {
    const store = await openStore()
    await suite.seaweedfs.write(suite.bucket, `${suite.prefix}/pictures/picture-1.png`, 'not\nours')
    expect(await store.get('picture-1')).toBeUndefined()
    expect(await store.head('picture-1')).toBeUndefined()
    const image = makeImage(suite.png)
    await store.put(image)
    expect(await store.get('picture-1')).toEqual(image)
  })

  it('pages through more pictures than it reads at once, all of one instant', async () => {
    const store = await openStore()
    const ids = Array.from({ length: 45 }, (_, index) => `p${'-_aZ0'[index % 5]}${index}`)
    await Promise.all(ids.map((id) => store.put(makeImage(suite.png, { id }))))
    const seen: string[] = []
    for (let after: string | undefined; ; ) {
      const page = await store.list(owner, { limit: 20, ...(after === undefined ? {} : { after }) })
      seen.push(...page.records.map(({ id }) => id))
      after = page.next
      if (after === undefined) break
    }
    expect(seen).toEqual(ids.sort().reverse())
  })

  it('fills a page from beyond what has expired', async () => {
    const store = await openStore()
    for (const [index, id] of ['oldest', 'gone-1', 'gone-2', 'gone-3', 'newest'].entries()) {
      const expires_at = at(NOON + (id.startsWith('gone') ? 1 : 2) * HOUR_MS)
      await store.put(makeImage(suite.png, { id, created_at: at(NOON + index), expires_at }))
    }
    suite.now = NOON + HOUR_MS
    const page = await store.list(owner, { limit: 2 })
    expect(page.records.map(({ id }) => id)).toEqual(['newest', 'oldest'])
    expect(page).not.toHaveProperty('next')
  })
}
