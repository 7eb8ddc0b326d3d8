import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createCatalogue } from './catalogue.ts'

interface Picture {
  readonly id: string
  readonly owner: string
  readonly bytes: number
  readonly createdAt: number
  readonly expiresAt: number
}

const MAX_BYTES = 200
const OWNERS = ['ann', 'bob', 'cat', 'dan']
const iso = (ms: number) => new Date(ms).toISOString()
const byText = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
const byAge = (a: Picture, b: Picture) => a.createdAt - b.createdAt || byText(a.id, b.id)
const byExpiry = (a: Picture, b: Picture) => a.expiresAt - b.expiresAt || byText(a.id, b.id)
const sum = (pictures: readonly Picture[]) => pictures.reduce((total, { bytes }) => total + bytes, 0)

/** The same as plainly as it can be said: one array, gone through for everything. */
function createModel() {
  let pictures: Picture[] = []
  const of = (owner: string) => pictures.filter((picture) => picture.owner === owner).sort(byAge)
  const remove = (id: string) => {
    pictures = pictures.filter((picture) => picture.id !== id)
  }
  return {
    pictures: () => pictures,
    add(picture: Picture) {
      remove(picture.id)
      pictures.push(picture)
    },
    remove,
    expired: (now: number) => pictures.filter(({ expiresAt }) => expiresAt <= now).sort(byExpiry),

    makeRoom({ owner, bytes, now }: { owner: string; bytes: number; now: number }) {
      const gone: string[] = []
      const missing = () => sum(pictures) + bytes - MAX_BYTES
      const take = (picture: Picture | undefined) => {
        gone.push(picture!.id)
        remove(picture!.id)
      }
      for (const picture of this.expired(now)) if (missing() > 0) take(picture)
      const share = MAX_BYTES / new Set([owner, ...pictures.map((picture) => picture.owner)]).size
      const before = pictures
      const valid = gone.length
      while (missing() > 0) {
        // Who may lose one now: the owner of the new picture, and whoever holds more than a share.
        const weights = OWNERS.map((name) => ({
          name,
          weight: sum(of(name)) + (name === owner ? bytes : 0),
        })).filter(({ name, weight }) => of(name).length > 0 && (name === owner || weight > share))
        const heaviest = weights.sort(
          (a, b) =>
            b.weight - a.weight ||
            Number(b.name === owner) - Number(a.name === owner) ||
            byText(b.name, a.name),
        )[0]
        if (!heaviest) {
          // In vain: nothing valid went.
          pictures = before
          return { ids: gone.slice(0, valid), fits: false }
        }
        take(of(heaviest.name)[0])
      }
      return { ids: gone, fits: true }
    },

    page({ owner, limit, after, now }: { owner: string; limit: number; after?: string; now: number }) {
      const all = of(owner)
        .filter(({ expiresAt }) => expiresAt > now)
        .reverse()
      const cursor = (picture: Picture) => `${picture.createdAt}.${picture.id}`
      const [createdAt, id] = after?.split('.') ?? []
      const rest =
        id === undefined
          ? all
          : all.filter((picture) => byAge(picture, { ...picture, createdAt: Number(createdAt), id }) < 0)
      const ids = rest.slice(0, limit).map((picture) => picture.id)
      return rest.length > limit ? { ids, next: cursor(rest[limit - 1]!) } : { ids }
    },
  }
}

const owner = fc.constantFrom(...OWNERS)
const id = fc.nat(30).map((number) => `p${number}`)
const after = fc.option(fc.tuple(fc.nat(40), id).map(([createdAt, name]) => `${createdAt}.${name}`))
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('put' as const),
      id,
      owner,
      bytes: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 40, max: MAX_BYTES })),
      createdAt: fc.nat(40),
      lives: fc.integer({ min: 1, max: 60 }),
    }),
  },
  fc.record({ kind: fc.constant('remove' as const), id }),
  fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(8) }),
  fc.record({ kind: fc.constant('sweep' as const), limit: fc.nat(3) }),
  fc.record({ kind: fc.constant('page' as const), owner, limit: fc.integer({ min: 1, max: 4 }), after }),
)

test('does what the plain model does, and nobody within a share loses a picture to another', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const catalogue = createCatalogue()
      const model = createModel()
      let now = 0
      for (const one of steps) {
        if (one.kind === 'pass') now += one.ms
        if (one.kind === 'remove') {
          catalogue.remove(one.id)
          model.remove(one.id)
        }
        if (one.kind === 'sweep') {
          const ids = catalogue.expired(now, one.limit)
          expect(ids).toEqual(
            model
              .expired(now)
              .slice(0, one.limit)
              .map((picture) => picture.id),
          )
          for (const expired of ids) {
            catalogue.remove(expired)
            model.remove(expired)
          }
        }
        if (one.kind === 'page') {
          const options = { owner: one.owner, limit: one.limit, after: one.after ?? undefined, now }
          expect(catalogue.page(options)).toEqual(model.page(options))
        }
        if (one.kind === 'put') {
          const { lives, kind: _, ...picture } = one
          const expiresAt = picture.createdAt + lives
          catalogue.remove(picture.id)
          model.remove(picture.id)
          const before = model.pictures().filter((other) => other.expiresAt > now)
          const room = { owner: picture.owner, bytes: picture.bytes, maxBytes: MAX_BYTES, now }
          const made = catalogue.makeRoom(room)
          expect(made).toEqual(model.makeRoom(room))
          const share = MAX_BYTES / new Set([picture.owner, ...before.map((other) => other.owner)]).size
          for (const victim of before.filter((other) => made.ids.includes(other.id)))
            if (victim.owner !== picture.owner)
              expect(sum(before.filter((other) => other.owner === victim.owner))).toBeGreaterThan(share)
          // Within a share there is always room.
          if (picture.bytes <= share) expect(made.fits).toBe(true)
          if (made.fits) {
            const times = { created_at: iso(picture.createdAt), expires_at: iso(expiresAt) }
            catalogue.add({ id: picture.id, owner: picture.owner, ...times }, picture.bytes)
            model.add({ ...picture, expiresAt })
          }
        }
        expect(catalogue.bytes()).toBe(sum(model.pictures()))
        expect([...catalogue.ids()].sort()).toEqual(
          model
            .pictures()
            .map((picture) => picture.id)
            .sort(),
        )
      }
    }),
    { numRuns: 300 },
  )
})

describe('what it compares', () => {
  /** A full catalogue of pictures of one byte, every tenth owned by somebody of its own. */
  function filled(count: number) {
    let compared = 0
    const catalogue = createCatalogue({ onCompare: () => (compared += 1) })
    for (let index = 0; index < count; index += 1)
      catalogue.add(
        {
          id: `p${index}`,
          owner: index % 10 === 0 ? `owner-${index}` : 'ann',
          created_at: iso(index),
          expires_at: iso(1_000_000 + index),
        },
        1,
      )
    const costOf = (act: () => unknown) => {
      compared = 0
      act()
      return compared
    }
    const room = { owner: 'ann', bytes: 1, now: 0 }
    return {
      'to look for room': costOf(() => catalogue.makeRoom({ ...room, maxBytes: count + 1 })),
      'to make room': costOf(() => catalogue.makeRoom({ ...room, maxBytes: count })),
      'to make room for another': costOf(() =>
        catalogue.makeRoom({ ...room, owner: 'bob', maxBytes: count - 1 }),
      ),
      'to add': costOf(() =>
        catalogue.add({ id: 'new', owner: 'bob', created_at: iso(count / 2), expires_at: iso(1_500_000) }, 1),
      ),
      'to remove': costOf(() => catalogue.remove(`p${count / 2 + 1}`)),
      'for a page': costOf(() =>
        catalogue.page({ owner: 'ann', limit: 20, after: `${count / 2}.p7`, now: 0 }),
      ),
      'for a page of one with none': costOf(() =>
        catalogue.page({ owner: 'nobody', limit: 20, after: undefined, now: 0 }),
      ),
      'for what has expired': costOf(() => catalogue.expired(1_000_050, 20)),
    }
  }

  test('grows by the logarithm of the pictures', () => {
    const few = filled(1000)
    const many = filled(100_000)
    // log2(100,000) is 1.7 times log2(1000).
    for (const [what, compared] of Object.entries(many))
      expect(compared, what).toBeLessThanOrEqual(2 * few[what as keyof typeof few] + 4)
    expect(few['to look for room']).toBe(0)
    expect(many['for a page of one with none']).toBe(0)
    expect(many['for what has expired']).toBe(0)
  })
})
