import { describe, expect, test } from 'vitest'
import { type LifeEvent, type LifeState, next, publicState, TRANSITIONS } from './lifecycle.ts'

const STATES = Object.keys(TRANSITIONS) as LifeState[]
const EVENTS: LifeEvent[] = [
  'start',
  'finish',
  'fail',
  'cancel',
  'expire',
  'join',
  'leave',
  'detach',
  'abandon',
]
const ENDS = ['succeeded', 'failed', 'cancelled', 'expired']

/** Every transition there is, written out once more by hand: what a reader of docs/jobs.md relies on. */
const EXPECTED: Record<string, Partial<Record<LifeEvent, LifeState>>> = {
  'queued/attended': {
    start: 'running/attended',
    fail: 'failed',
    cancel: 'cancelled',
    expire: 'expired',
    join: 'queued/attended',
    leave: 'queued/orphan',
    detach: 'queued/detached',
  },
  'queued/orphan': {
    start: 'running/orphan',
    fail: 'failed',
    cancel: 'cancelled',
    expire: 'expired',
    join: 'queued/attended',
    abandon: 'cancelled',
  },
  'queued/detached': {
    start: 'running/detached',
    fail: 'failed',
    cancel: 'cancelled',
    expire: 'expired',
    join: 'queued/detached',
    leave: 'queued/detached',
    detach: 'queued/detached',
  },
  'running/attended': {
    finish: 'succeeded',
    fail: 'failed',
    cancel: 'cancelled',
    expire: 'expired',
    join: 'running/attended',
    leave: 'running/orphan',
    detach: 'running/detached',
  },
  'running/orphan': {
    finish: 'succeeded',
    fail: 'failed',
    cancel: 'cancelled',
    expire: 'expired',
    join: 'running/attended',
    abandon: 'cancelled',
  },
  'running/detached': {
    finish: 'succeeded',
    fail: 'failed',
    cancel: 'cancelled',
    expire: 'expired',
    join: 'running/detached',
    leave: 'running/detached',
    detach: 'running/detached',
  },
}

describe('every transition', () => {
  test.each(STATES.flatMap((state) => EVENTS.map((event) => [state, event] as const)))(
    '%s + %s',
    (state, event) => {
      expect(next(state, event)).toBe(EXPECTED[state]?.[event])
    },
  )
})

/** The state after some events; those that change nothing are passed over. */
const follow = (state: LifeState, ...events: LifeEvent[]): LifeState =>
  events.reduce((current, event) => next(current, event) ?? current, state)
const isEnd = (state: LifeState) => ENDS.includes(state)

/** Pairs whose order decides whether the job lives: the race is meant, and whoever comes first wins. */
const RACES = [
  ['join', 'abandon'],
  // Finishing needs a start, an orphan needs a leave: in the other order the second event finds nothing to do.
  ['start', 'finish'],
  ['leave', 'abandon'],
]
const isRace = (a: LifeEvent, b: LifeEvent) =>
  RACES.some((race) => race.includes(a) && race.includes(b) && a !== b)

describe('every pair of concurrent events', () => {
  const pairs = STATES.flatMap((state) => EVENTS.flatMap((a) => EVENTS.map((b) => [state, a, b] as const)))

  test.each(pairs)('%s: %s and %s', (state, a, b) => {
    // An end is final: what comes after it changes nothing.
    if (isEnd(follow(state, a))) expect(follow(state, a, b)).toBe(follow(state, a))
    // In either order the job is alive, or in either order it has ended.
    if (!isRace(a, b)) expect(isEnd(follow(state, a, b))).toBe(isEnd(follow(state, b, a)))
  })
})

describe('what the table promises', () => {
  test('nothing leaves an end', () => {
    for (const end of ENDS) expect(TRANSITIONS[end as LifeState]).toEqual({})
  })

  test('every live state can end by cancel, deadline and failure', () => {
    for (const state of STATES.filter((name) => name.includes('/')))
      expect(EVENTS.map((event) => next(state, event))).toEqual(
        expect.arrayContaining(['cancelled', 'expired', 'failed']),
      )
  })

  test('a detached job never becomes an orphan, and only an orphan can be abandoned', () => {
    for (const state of STATES) {
      if (state.endsWith('/detached'))
        for (const event of EVENTS) expect(next(state, event) ?? '').not.toContain('orphan')
      if (!state.endsWith('/orphan')) expect(next(state, 'abandon')).toBeUndefined()
    }
  })

  test('a picture is only ever finished while it runs', () => {
    for (const state of STATES)
      expect(next(state, 'finish')).toBe(publicState(state) === 'running' ? 'succeeded' : undefined)
  })

  test('adoption against the end of the grace: whoever comes first wins, and never both', () => {
    for (const state of ['queued/orphan', 'running/orphan'] as const) {
      expect(follow(state, 'join', 'abandon')).toBe(state.replace('orphan', 'attended'))
      expect(follow(state, 'abandon', 'join')).toBe('cancelled')
    }
  })
})
