/** Several processes on one bucket, and what one that crashed leaves there. */
import { describe, expect, it } from 'vitest'
import { HOUR_MS, makeImage, NOON } from '../../support/pictures.ts'
import { at, type S3Suite } from './suite.ts'

export function sharing(suite: S3Suite): void {
  const { openStore, idsIn, keys } = suite

  describe('with another process on the same bucket', () => {
    it('serves, lists and deletes what the other put', async () => {
      const [one, other] = [await openStore(), await openStore()]
      const image = makeImage(suite.png)
      await one.put(image)
      expect(await other.get('picture-1')).toEqual(image)
      expect(await idsIn(other)).toEqual(['picture-1'])
      expect(await other.delete('picture-1')).toBe(true)
      expect(await one.get('picture-1')).toBeUndefined()
      expect(await idsIn(one)).toEqual([])
    })

    it('lets one first writer win, and leaves no names of the others', async () => {
      const stores = await Promise.all([openStore(), openStore(), openStore(), openStore()])
      for (let round = 0; round < 5; round += 1) {
        const id = `picture-${round}`
        const answers = await Promise.all(
          stores.map((store, seed) =>
            store.put(makeImage(suite.png, { id, seed, created_at: at(NOON + (seed % 2)) })),
          ),
        )
        const kept = await stores[0]!.head(id)
        expect(answers).toEqual([kept, kept, kept, kept])
      }
      expect((await idsIn(stores[0]!)).sort()).toEqual([0, 1, 2, 3, 4].map((round) => `picture-${round}`))
      expect(await keys()).toHaveLength(15)
    })

    it('lets one win the place of an expired picture', async () => {
      const [one, other] = [await openStore(), await openStore()]
      await one.put(makeImage(suite.png))
      suite.now = NOON + HOUR_MS
      const renewed = { created_at: at(suite.now), expires_at: at(suite.now + HOUR_MS) }
      const answers = await Promise.all(
        [one, other].map((store, seed) => store.put(makeImage(suite.png, { seed, ...renewed }))),
      )
      expect(answers[0]).toEqual(answers[1])
      expect(await one.sweep()).toBe(0)
      expect(await other.head('picture-1')).toEqual(answers[0])
      expect(await keys()).toHaveLength(3)
    })

    it('sweeps at once with the other, pages of it, and leaves what is valid', async () => {
      const [one, other] = [await openStore(), await openStore()]
      const expired = Array.from({ length: 40 }, (_, index) => `old-${index}`)
      await Promise.all(expired.map((id) => one.put(makeImage(suite.png, { id }))))
      await one.put(makeImage(suite.png, { id: 'young', expires_at: at(NOON + 2 * HOUR_MS) }))
      suite.now = NOON + HOUR_MS
      expect(await idsIn(other)).toEqual(['young'])
      const counts = await Promise.all([one.sweep(), other.sweep()])
      expect(counts[0] + counts[1]).toBe(40)
      expect(await keys()).toHaveLength(3)
      expect(await other.get('young')).toBeDefined()
    })
  })
}

export function crash(suite: S3Suite): void {
  const { openStore, idsIn, keys } = suite

  describe('after a crash in the middle of a put', () => {
    it('shows nothing, and sweeps the names when they expire', async () => {
      let allowed = Number.POSITIVE_INFINITY
      const store = await openStore({
        retryForMs: 0,
        fetch: (input, init) => {
          if (init?.method === 'PUT' && String(input).endsWith('.png')) allowed = 0
          return allowed > 0 ? fetch(input, init) : Promise.reject(new TypeError('crashed'))
        },
      })
      await expect(store.put(makeImage(suite.png))).rejects.toMatchObject({ code: 'overloaded' })
      expect(await keys()).toHaveLength(2)
      const next = await openStore()
      expect(await idsIn(next)).toEqual([])
      await next.put(makeImage(suite.png, { created_at: at(NOON + 1) }))
      expect(await idsIn(next), 'listed once, whatever names there are').toEqual(['picture-1'])
      suite.now = NOON + HOUR_MS
      expect(await next.sweep()).toBe(1)
      expect(await keys()).toEqual([])
    })
  })
}
