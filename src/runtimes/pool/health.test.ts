import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createHealth } from './health.ts'

let works: boolean
let probes: number
let changes: number
let health: ReturnType<typeof createHealth>

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

function begin(): void {
  health = createHealth({
    probe: async () => {
      probes += 1
      if (!works) throw new Error('no answer')
    },
    onChange: () => {
      changes += 1
    },
  })
}

beforeEach(() => {
  vi.useFakeTimers()
  vi.spyOn(Math, 'random').mockReturnValue(0.5)
  works = true
  probes = 0
  changes = 0
})
afterEach(() => {
  health.close()
  vi.restoreAllMocks()
  vi.useRealTimers()
})

test('a replica is ready after its first probe, and takes nothing before', async () => {
  begin()
  expect(health.state()).toBe('starting')
  expect(health.hasLooked()).toBe(false)
  await pass(0)
  expect(health.state()).toBe('ready')
  expect(changes).toBe(1)
})

test('one that is not ready is probed every few seconds; while it makes pictures, not at all', async () => {
  works = false
  begin()
  await pass(9000)
  expect(health.state()).toBe('starting')
  expect(probes).toBe(5)
  works = true
  await pass(2000)
  expect(health.state()).toBe('ready')
  const before = probes
  for (let picture = 0; picture < 20; picture += 1) {
    health.worked()
    await pass(10_000)
  }
  expect(probes).toBe(before)
  await pass(30_000)
  expect(probes).toBeGreaterThan(before)
})

test('one missed probe is nothing, two in a row eject', async () => {
  begin()
  await pass(0)
  works = false
  await pass(15_000)
  expect(health.state()).toBe('ready')
  await pass(1000)
  expect(health.state()).toBe('ejected')
  works = true
  await pass(2000)
  expect(health.state()).toBe('ready')
})

test('an ejected replica comes back by a probe, later each time, until it made a picture', async () => {
  begin()
  await pass(0)
  for (const backOffMs of [1000, 2000, 4000, 8000]) {
    health.eject('the connection broke')
    expect(health.state()).toBe('ejected')
    await pass(backOffMs - 1)
    expect(health.state()).toBe('ejected')
    await pass(1)
    expect(health.state()).toBe('ready')
  }
  health.worked()
  health.eject('the connection broke')
  await pass(1000)
  expect(health.state()).toBe('ready')
  expect(health.ejections()).toBe(5)
})

test('runs that find out together eject it once', async () => {
  begin()
  await pass(0)
  for (let run = 0; run < 8; run += 1) health.eject('the connection broke')
  await pass(1000)
  expect(health.state()).toBe('ready')
  expect(health.ejections()).toBe(1)
})

test('a probe that began before the ejection does not bring it back', async () => {
  const ends: (() => void)[] = []
  health = createHealth({
    probe: () => new Promise<void>((resolve) => ends.push(resolve)),
    onChange: () => {},
  })
  ends.shift()!()
  await pass(15_000)
  expect(ends).toHaveLength(1)
  health.eject('it hangs')
  ends.shift()!()
  await pass(0)
  expect(health.state()).toBe('ejected')
})

test('busy: it gets nothing for as long as it says, and is not ejected', async () => {
  begin()
  await pass(0)
  changes = 0
  health.busy(7000)
  expect(health.state()).toBe('busy')
  await pass(6999)
  expect(health.state()).toBe('busy')
  await pass(2)
  expect(health.state()).toBe('ready')
  expect(changes).toBe(2)
  expect(health.ejections()).toBe(0)
})

test('wrong answers eject it when nothing else comes', async () => {
  begin()
  await pass(0)
  expect([health.failed('500'), health.failed('500')]).toEqual([false, false])
  health.worked()
  expect([health.failed('500'), health.failed('500'), health.failed('500')]).toEqual([false, false, true])
  expect(health.state()).toBe('ejected')
})
