import { describe, expect, test } from 'vitest'
import { queueModel } from './queueing.ts'

/** So much room that nobody is refused. */
const ENDLESS = 400

test.each([0.5, 0.8, 0.95])('one slot at %f: the mean wait of Pollaczek and Khinchine', (rho) => {
  const { meanWaitSeconds } = queueModel({
    ...{ arrivalsPerSecond: rho, serviceSeconds: 1, servers: 1, places: ENDLESS },
  })
  expect(meanWaitSeconds).toBeCloseTo(rho / (2 * (1 - rho)), 3)
})

test.each([
  [1, 1, 0.5],
  [5, 10, 0.563952],
  [10, 5, 0.018385],
  [10, 10, 0.214582],
])('without a queue: Erlang’s loss formula, %i slots for %f erlangs', (servers, offered, loss) => {
  const model = queueModel({ arrivalsPerSecond: offered * 2, serviceSeconds: 0.5, servers, places: servers })
  expect(model.refusedShare).toBeCloseTo(loss, 5)
  expect(model.waitWithin(0.99)).toBe(0)
})

test.each([
  [2, 0.8],
  [4, 0.8],
  [4, 0.95],
  [16, 0.9],
])(
  'endless room, %i slots at %f: above the exact mean wait (Crommelin 1932) by at most a tenth',
  (servers, rho) => {
    const { meanWaitSeconds } = queueModel({
      ...{ arrivalsPerSecond: rho * servers, serviceSeconds: 1, servers, places: ENDLESS },
    })
    const exact = crommelin({ arrivals: rho * servers, servers })
    expect(meanWaitSeconds / exact).toBeGreaterThan(1)
    expect(meanWaitSeconds / exact).toBeLessThan(1.1)
  },
)

describe.each([
  { servers: 1, places: 4, rho: 0.8 },
  { servers: 4, places: 12, rho: 0.8 },
  { servers: 4, places: 12, rho: 0.95 },
  { servers: 4, places: 12, rho: 2 },
  { servers: 4, places: 12, rho: 10 },
  { servers: 2, places: 18, rho: 0.9 },
  { servers: 16, places: 48, rho: 0.9 },
  { servers: 16, places: 48, rho: 1.2 },
])('$servers slots, $places places, load $rho, beside a simulation of it', ({ servers, places, rho }) => {
  const serviceSeconds = 0.5
  const arrivalsPerSecond = (rho * servers) / serviceSeconds
  const model = queueModel({ arrivalsPerSecond, serviceSeconds, servers, places })
  const simulated = simulate({ arrivalsPerSecond, serviceSeconds, servers, places, arrivals: 400_000 })

  test('refuses the same share, to within 0.1 percent of the calls', () => {
    expect(Math.abs(model.refusedShare - simulated.refusedShare)).toBeLessThan(0.001)
  })
  test('delivers the same rate, to within 1 %', () => {
    const expected = arrivalsPerSecond * (1 - simulated.refusedShare)
    expect(Math.abs(model.deliveredPerSecond / expected - 1)).toBeLessThan(0.01)
  })
  // While all slots work without a pause, they keep the distances that they began with, and these are chance.
  if (rho < 1)
    test('waits as long: mean, p95 and p99 to within a tenth, of a service time or of themselves', () => {
      const pairs = [
        [model.meanWaitSeconds, simulated.meanWaitSeconds],
        ...[0.95, 0.99].map((share) => [model.waitWithin(share), simulated.waitWithin(share)]),
      ] as [number, number][]
      for (const [modelled, measured] of pairs)
        expect(Math.abs(modelled - measured)).toBeLessThan(0.1 * Math.max(serviceSeconds, measured))
    })
  else
    test('nobody waits longer than for all places before', () => {
      const longest = ((places - 1) / servers) * serviceSeconds
      expect(model.waitWithin(0.95)).toBeLessThanOrEqual(longest * 1.1)
      expect(model.waitWithin(0.95)).toBeGreaterThan(simulated.waitWithin(0.95) * 0.9)
    })
})

test('thousands of places at ten times the capacity overflow nothing', () => {
  const model = queueModel({ arrivalsPerSecond: 20_000, serviceSeconds: 0.5, servers: 1000, places: 3000 })
  expect(model.deliveredPerSecond).toBeCloseTo(2000, 0)
  expect(model.waitWithin(0.99)).toBeGreaterThan(0.9)
  expect(model.waitWithin(0.99)).toBeLessThan(1.1)
})

test('refuses what is no queue', () => {
  const some = { arrivalsPerSecond: 1, serviceSeconds: 1, servers: 1, places: 1 }
  expect(() => queueModel({ ...some, places: 0 })).toThrow(RangeError)
  expect(() => queueModel({ ...some, arrivalsPerSecond: 0 })).toThrow(RangeError)
})

/** Mean wait in service times: what is in the system one service time later is what was too much for the slots, and who came. */
function crommelin({ arrivals, servers }: { arrivals: number; servers: number }): number {
  const size = 600
  const came = Array.from({ length: size }, () => 0)
  came[0] = Math.exp(-arrivals)
  for (let n = 1; n < size; n += 1) came[n] = ((came[n - 1] as number) * arrivals) / n
  let state = came
  for (let round = 0; round < 1500; round += 1) {
    const next = Array.from({ length: size }, () => 0)
    for (const [n, share] of state.entries()) {
      if (share < 1e-15) continue
      const left = Math.max(0, n - servers)
      for (let more = 0; more < size - left; more += 1) {
        const chance = came[more] as number
        if (more > arrivals && chance < 1e-15) break
        next[left + more] = (next[left + more] as number) + share * chance
      }
    }
    state = next
  }
  return state.reduce((sum, share, n) => sum + share * Math.max(0, n - servers), 0) / arrivals
}

/** The same queue, call by call, with random numbers from a generator that starts the same every time. */
function simulate(options: {
  arrivalsPerSecond: number
  serviceSeconds: number
  servers: number
  places: number
  arrivals: number
}) {
  const { arrivalsPerSecond, serviceSeconds, servers, places, arrivals } = options
  const random = mulberry32(1)
  const ends: number[] = []
  const waits: number[] = []
  let now = 0
  let refused = 0
  for (let call = 0; call < arrivals; call += 1) {
    now += -Math.log(1 - random()) / arrivalsPerSecond
    while (ends.length > 0 && (ends[0] as number) <= now) ends.shift()
    if (ends.length >= places) {
      refused += 1
      continue
    }
    const start = ends.length < servers ? now : (ends[ends.length - servers] as number)
    waits.push(start - now)
    // All take the same time and start in their order, so they end in their order.
    ends.push(start + serviceSeconds)
  }
  waits.sort((a, b) => a - b)
  return {
    refusedShare: refused / arrivals,
    meanWaitSeconds: waits.reduce((sum, wait) => sum + wait, 0) / waits.length,
    waitWithin: (share: number) => waits[Math.floor(share * waits.length)] as number,
  }
}

/** Tommy Ettinger's generator of 32 bits: small, and good enough for a queue. */
function mulberry32(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
