import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Replica } from '../../runtimes/pool/pool.ts'
import { createGrants } from './grants.ts'

test('the least busy replica gets the next picture, and among equals the one that is idle for longest', () => {
  const ready: Replica[] = [
    { id: 'a', slots: 2 },
    { id: 'b', slots: 1 },
  ]
  const grants = createGrants({ ready: () => ready })
  expect([grants.take(), grants.take(), grants.take(), grants.take()]).toEqual(['a', 'b', 'a', undefined])
  grants.give('a')
  grants.give('b')
  // One of two in use is busier than none of one.
  expect(grants.take()).toBe('b')
  grants.give('a')
  grants.give('b')
  expect([grants.take(), grants.take()]).toEqual(['a', 'b'])
})

test('a cap holds for all replicas together, also for what still draws on one that left', () => {
  const pool = { cap: 2, ready: (): Replica[] => [{ id: 'a', slots: 4 }] }
  const grants = createGrants(pool)
  expect(grants.capacity()).toBe(2)
  expect([grants.take(), grants.take(), grants.take()]).toEqual(['a', 'a', undefined])
  pool.ready = () => [{ id: 'b', slots: 4 }]
  grants.refresh()
  expect(grants.take()).toBe(undefined)
  grants.give('a')
  expect(grants.take()).toBe('b')
})

/** A step of a random sequence: the ready replicas, a picture more, or one that is finished. */
const step = fc.oneof(
  fc.record({
    ready: fc.uniqueArray(
      fc.record({ id: fc.constantFrom('a', 'b', 'c', 'd', 'e'), slots: fc.integer({ min: 1, max: 3 }) }),
      {
        selector: ({ id }) => id,
      },
    ),
  }),
  fc.constant('take' as const),
  fc.constant('take' as const),
  fc.record({ give: fc.nat() }),
)

test('whatever comes and goes: no replica beyond its slots, no free slot refused, the fairest one granted', () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 60 }),
      fc.option(fc.integer({ min: 1, max: 6 })),
      (steps, cap) => {
        let ready: readonly Replica[] = []
        const taken: string[] = []
        const freedAt = new Map<string, number>()
        let now = 0
        const grants = createGrants({ ready: () => ready, ...(cap === null ? {} : { cap }) })
        const inUse = (id: string) => taken.filter((each) => each === id).length
        const slots = () => ready.reduce((sum, replica) => sum + replica.slots, 0)
        for (const one of steps) {
          now += 1
          if (one === 'take') {
            const free = ready.filter(({ id, slots }) => inUse(id) < slots)
            const mayTake = free.length > 0 && taken.length < (cap ?? Number.POSITIVE_INFINITY)
            const granted = grants.take()
            expect(granted !== undefined).toBe(mayTake)
            if (granted === undefined) continue
            const share = ({ id, slots }: Replica) => inUse(id) / slots
            const own = free.find(({ id }) => id === granted) as Replica
            expect(own).toBeDefined()
            for (const other of free) {
              expect(share(other)).toBeGreaterThanOrEqual(share(own))
              const [freed, otherFreed] = [freedAt.get(own.id), freedAt.get(other.id)]
              if (share(other) === share(own) && freed !== undefined && otherFreed !== undefined)
                expect(freed).toBeLessThanOrEqual(otherFreed)
            }
            taken.push(granted)
          } else if ('ready' in one) {
            ready = one.ready
            grants.refresh()
            // One that comes anew with nothing in use has no past.
            for (const id of [...freedAt.keys()])
              if (!ready.some((replica) => replica.id === id)) freedAt.delete(id)
          } else if (taken.length > 0) {
            const [given] = taken.splice(one.give % taken.length, 1) as [string]
            grants.give(given)
            if (ready.some(({ id }) => id === given)) freedAt.set(given, now)
          }
          expect(grants.capacity()).toBe(Math.min(slots(), cap ?? Number.POSITIVE_INFINITY))
          expect(grants.busy()).toBeGreaterThanOrEqual(0)
          expect(grants.busy()).toBeLessThanOrEqual(grants.capacity())
        }
      },
    ),
    { numRuns: 300 },
  )
})
