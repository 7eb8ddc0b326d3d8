/** What every store of pictures must do, as a suite that each store's tests call. */
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { ImageStore } from '../../src/images/image.ts'
import { HOUR_MS, makeImage, makePng, NOON } from '../support/pictures.ts'

const KIB = 1024
/** Room for three of the pictures of about 100 KiB below, not for four. */
const THREE_PICTURES = 350 * KIB

export interface MakeStoreOptions {
  /** Bound in bytes. */
  readonly maxBytes: number
  /** Milliseconds since 1970. */
  readonly now: () => number
}

/** Declares the suite. `make` gives an empty store that nothing else uses; the suite closes it. */
export function imageStoreContract(
  name: string,
  make: (options: MakeStoreOptions) => Promise<ImageStore>,
): void {
  describe(`${name} keeps the contract of a store`, () => {
    let now: number
    let store: ImageStore
    let small: Buffer
    let large: Buffer

    const at = (ms: number) => new Date(ms).toISOString()
    const made = (id: string, minutes: number) => ({ id, created_at: at(NOON + minutes * 60_000) })

    beforeAll(async () => {
      small = await makePng({ width: 64, height: 64 })
      large = await makePng({ width: 184, height: 184, noise: true })
    })
    beforeEach(async () => {
      now = NOON
      store = await make({ maxBytes: THREE_PICTURES, now: () => now })
    })
    afterEach(() => store.close())

    describe('one picture', () => {
      it('comes back byte for byte, with its whole record', async () => {
        const image = makeImage(large, { negative_prompt: 'blurry\n"quoted"' })
        expect(await store.put(image)).toEqual(image.record)
        const stored = await store.get('picture-1')
        expect(stored?.record).toEqual(image.record)
        expect(Buffer.compare(stored!.png, large)).toBe(0)
        expect(await store.head('picture-1')).toEqual(image.record)
      })

      it.each([
        'unknown',
        '',
        '.',
        '..',
        '../picture-1',
        'a/../picture-1',
        'picture-1\0',
        'picture-1\n',
        '%2e%2e',
        'x'.repeat(65),
      ])('is absent under the id %j', async (id) => {
        await store.put(makeImage(small))
        expect(await store.get(id)).toBeUndefined()
        expect(await store.head(id)).toBeUndefined()
        expect(await store.delete(id)).toBe(false)
        expect(await store.head('picture-1')).toBeDefined()
      })

      it('may have an id of 64 characters', async () => {
        const id = `${'aZ09_-'.repeat(10)}abcd`
        await store.put(makeImage(small, { id }))
        expect((await store.get(id))?.record.id).toBe(id)
      })

      it('stays as the first writer left it', async () => {
        await store.put(makeImage(small, { seed: 1 }))
        const second = await store.put(makeImage(large, { seed: 2 }))
        expect(second.seed).toBe(1)
        expect((await store.get('picture-1'))?.png.byteLength).toBe(small.byteLength)
      })

      it('has one first writer among many at once', async () => {
        const seeds = [1, 2, 3, 4, 5, 6, 7, 8]
        const answers = await Promise.all(seeds.map((seed) => store.put(makeImage(small, { seed }))))
        const kept = await store.head('picture-1')
        expect(answers).toEqual(seeds.map(() => kept))
      })

      it('is deleted once', async () => {
        await store.put(makeImage(small))
        expect(await store.delete('picture-1')).toBe(true)
        expect(await store.get('picture-1')).toBeUndefined()
        expect(await store.delete('picture-1')).toBe(false)
      })

      it('may be put again after it was deleted', async () => {
        await store.put(makeImage(small, { seed: 1 }))
        await store.delete('picture-1')
        expect((await store.put(makeImage(small, { seed: 2 }))).seed).toBe(2)
      })
    })

    describe('age', () => {
      it('makes a picture absent the moment it expires, unswept', async () => {
        const image = makeImage(small)
        await store.put(image)
        now = NOON + HOUR_MS - 1
        expect(await store.get('picture-1')).toBeDefined()
        now = NOON + HOUR_MS
        expect(await store.get('picture-1')).toBeUndefined()
        expect(await store.head('picture-1')).toBeUndefined()
        expect((await store.list(image.record.owner, { limit: 10 })).records).toEqual([])
        expect(await store.delete('picture-1')).toBe(false)
      })

      it('lets an expired id be taken anew', async () => {
        await store.put(makeImage(small, { seed: 1 }))
        now = NOON + HOUR_MS
        const again = { seed: 2, created_at: at(now), expires_at: at(now + HOUR_MS) }
        expect((await store.put(makeImage(small, again))).seed).toBe(2)
        expect((await store.head('picture-1'))?.seed).toBe(2)
      })

      it('is what a sweep goes by; it counts what it removed', async () => {
        await store.put(makeImage(small, { id: 'old' }))
        await store.put(makeImage(small, { id: 'young', expires_at: at(NOON + 2 * HOUR_MS) }))
        expect(await store.sweep()).toBe(0)
        now = NOON + HOUR_MS
        expect(await store.sweep()).toBe(1)
        expect(await store.sweep()).toBe(0)
        expect(await store.head('young')).toBeDefined()
      })
    })

    describe('the bound in bytes', () => {
      it('lets the oldest picture go to make room, whatever the order of arrival', async () => {
        for (const record of [made('b', 2), made('oldest', 1), made('c', 3), made('a', 4)])
          await store.put(makeImage(large, record))
        expect(await store.get('oldest')).toBeUndefined()
        for (const id of ['a', 'b', 'c']) expect(await store.get(id)).toBeDefined()
      })

      it('holds when pictures come all at once', async () => {
        const ids = ['a', 'b', 'c', 'd', 'e', 'f']
        await Promise.all(ids.map((id, index) => store.put(makeImage(large, made(id, index)))))
        const kept = await Promise.all(ids.map((id) => store.head(id)))
        expect(kept.filter((record) => record !== undefined)).toHaveLength(3)
      })

      it('lets an expired picture go before an older one that is still valid', async () => {
        await store.put(makeImage(large, { ...made('older', 1), expires_at: at(NOON + 2 * HOUR_MS) }))
        await store.put(makeImage(large, made('expired', 2)))
        await store.put(makeImage(large, made('other', 3)))
        now = NOON + HOUR_MS
        await store.put(makeImage(large, { ...made('new', 61), expires_at: at(NOON + 2 * HOUR_MS) }))
        expect(await store.head('older')).toBeDefined()
        expect(await store.head('new')).toBeDefined()
      })

      it('gets back what a deleted or swept picture took', async () => {
        for (const id of ['a', 'b', 'c']) await store.put(makeImage(large, made(id, 1)))
        await store.delete('b')
        await store.put(makeImage(large, made('d', 2)))
        for (const id of ['a', 'c', 'd']) expect(await store.head(id)).toBeDefined()
      })

      it('is not charged again for a picture that is there already', async () => {
        for (const id of ['a', 'b', 'c', 'c', 'c']) await store.put(makeImage(large, made(id, 1)))
        for (const id of ['a', 'b', 'c']) expect(await store.head(id)).toBeDefined()
      })

      it('refuses a picture larger than all of it, and keeps the others', async () => {
        await store.put(makeImage(small))
        const huge = makeImage(new Uint8Array(THREE_PICTURES + 1), { id: 'huge' })
        await expect(store.put(huge)).rejects.toMatchObject({ code: 'too_large' })
        expect(await store.head('picture-1')).toBeDefined()
      })
    })

    describe('the bound between owners', () => {
      const put = (id: string, owner: string, minutes: number, png: Uint8Array = large) =>
        store.put(makeImage(png, { ...made(id, minutes), owner }))
      const kept = async (...ids: string[]) => {
        const heads = await Promise.all(ids.map((id) => store.head(id)))
        return ids.filter((_, index) => heads[index])
      }

      it('lets the oldest picture of whoever holds most go, though another one is older', async () => {
        await put('bob-1', 'bob', 0)
        await put('ann-1', 'ann', 1)
        await put('ann-2', 'ann', 2)
        await put('cat-1', 'cat', 3)
        expect(await kept('bob-1', 'ann-1', 'ann-2', 'cat-1')).toEqual(['bob-1', 'ann-2', 'cat-1'])
      })

      it('takes from the owner of the new picture what would make it the heaviest', async () => {
        await put('ann-1', 'ann', 0)
        await put('bob-1', 'bob', 1)
        await put('bob-2', 'bob', 2)
        for (let index = 3; index < 9; index += 1) await put(`bob-${index}`, 'bob', index)
        expect(await kept('ann-1', 'bob-1', 'bob-7', 'bob-8')).toEqual(['ann-1', 'bob-7', 'bob-8'])
      })

      it('takes from the owner of the new picture where another one would hold the same', async () => {
        await put('ann-1', 'ann', 1)
        await put('ann-2', 'ann', 2)
        await put('bob-1', 'bob', 3)
        await put('bob-2', 'bob', 4)
        expect(await kept('ann-1', 'ann-2', 'bob-1', 'bob-2')).toEqual(['ann-1', 'ann-2', 'bob-2'])
      })

      it('lets what has expired go before anything of whoever holds most', async () => {
        const later = { expires_at: at(NOON + 3 * HOUR_MS) }
        await store.put(makeImage(large, { ...made('ann-1', 1), owner: 'ann', ...later }))
        await store.put(makeImage(large, { ...made('ann-2', 2), owner: 'ann', ...later }))
        await put('bob-1', 'bob', 3)
        now = NOON + HOUR_MS
        await store.put(makeImage(large, { ...made('ann-3', 61), owner: 'ann', ...later }))
        expect(await kept('ann-1', 'ann-2', 'ann-3')).toHaveLength(3)
      })

      it('is kept by many pictures of one that make room for a large one of another', async () => {
        for (let index = 1; index <= 3; index += 1) await put(`ann-${index}`, 'ann', index)
        await put('bob-1', 'bob', 4, Buffer.alloc(150 * KIB, 'b'))
        expect(await kept('ann-1', 'ann-2', 'ann-3', 'bob-1')).toEqual(['ann-3', 'bob-1'])
      })

      it('refuses what would only fit in the place of those within their share, and removes nothing', async () => {
        await put('ann-1', 'ann', 1)
        await put('ann-2', 'ann', 2)
        await put('bob-1', 'bob', 3)
        // A share is 117 KiB: ann could give one picture, which is not enough.
        await expect(put('cat-1', 'cat', 4, Buffer.alloc(200 * KIB, 'c'))).rejects.toMatchObject({
          code: 'too_large',
          message: expect.stringMatching(/full.* more than your share/),
        })
        expect(await kept('ann-1', 'ann-2', 'bob-1', 'cat-1')).toEqual(['ann-1', 'ann-2', 'bob-1'])
        await put('cat-2', 'cat', 5, Buffer.alloc(118 * KIB, 'c'))
        expect(await kept('ann-1', 'ann-2', 'bob-1', 'cat-2')).toEqual(['ann-2', 'bob-1', 'cat-2'])
      })
    })

    describe('a listing', () => {
      const ann = 'https://issuer.example|ann'
      const idsOf = (page: Awaited<ReturnType<ImageStore['list']>>) => page.records.map(({ id }) => id)

      it("holds one owner's records only, newest first, without a next on the last page", async () => {
        await store.put(makeImage(small, made('first', 1)))
        await store.put(makeImage(small, { ...made('foreign', 2), owner: 'bob' }))
        const last = makeImage(small, made('second', 3))
        await store.put(last)
        const page = await store.list(ann, { limit: 2 })
        expect(idsOf(page)).toEqual(['second', 'first'])
        expect(page.records[0]).toEqual(last.record)
        expect(page).not.toHaveProperty('next')
      })

      it('goes on where the page before ended, pictures of the same instant included', async () => {
        for (const id of ['a', 'b', 'c', 'd', 'e']) await store.put(makeImage(small, made(id, 1)))
        const seen: string[] = []
        let after: string | undefined
        do {
          const page = await store.list(ann, { limit: 2, ...(after === undefined ? {} : { after }) })
          seen.push(...idsOf(page))
          after = page.next
        } while (after !== undefined)
        expect(seen).toEqual(['e', 'd', 'c', 'b', 'a'])
      })

      it('goes on although the picture that its next names is gone, and new ones have come', async () => {
        for (const [index, id] of ['a', 'b', 'c', 'd'].entries())
          await store.put(makeImage(small, made(id, index)))
        const { next } = await store.list(ann, { limit: 2 })
        await store.delete('c')
        await store.put(makeImage(small, made('e', 9)))
        expect(next!.length).toBeLessThanOrEqual(200)
        expect(idsOf(await store.list(ann, { limit: 2, after: next! }))).toEqual(['b', 'a'])
      })

      it.each(['', 'a', '../..', '1.', `1.${'x'.repeat(65)}`, '1.a\n'])(
        'refuses the made-up next %j',
        async (after) => {
          await expect(store.list(ann, { limit: 2, after })).rejects.toMatchObject({
            code: 'invalid_request',
          })
        },
      )

      it.each([0, 101, 1.5, Number.NaN])('refuses a limit of %d', async (limit) => {
        await expect(store.list(ann, { limit })).rejects.toMatchObject({ code: 'invalid_request' })
      })
    })

    it.each([
      ['an id that could be a path', { id: '../escape' }],
      ['an empty id', { id: '' }],
      ['an id of 65 characters', { id: 'x'.repeat(65) }],
      ['another size than its bytes', { bytes: 7 }],
      ['no time of making', { created_at: 'yesterday' }],
      ['no expiry', { expires_at: '' }],
    ])('refuses a record with %s', async (_, record) => {
      await expect(store.put(makeImage(small, record))).rejects.toMatchObject({ code: 'internal' })
    })
  })
}
