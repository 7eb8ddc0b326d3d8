/**
 * The life of a job as data: every state, every event, and where each event leads. A state has two sides: what
 * happens to the picture (queued, running, or how it ended) and who holds the job:
 * - attended: somebody waits for it now;
 * - orphan: the last waiter left and no handle was given out; it is cancelled unless adopted within the grace;
 * - detached: a handle was given out, so it goes on without anybody waiting.
 * An event that has no entry in a state changes nothing there: of two concurrent events the first one wins.
 */

export type LiveState =
  | 'queued/attended'
  | 'queued/orphan'
  | 'queued/detached'
  | 'running/attended'
  | 'running/orphan'
  | 'running/detached'

export type EndState = 'succeeded' | 'failed' | 'cancelled' | 'expired'
export type LifeState = LiveState | EndState

export type LifeEvent =
  /** A slot is free and it is this job's turn. */
  | 'start'
  /** The picture is stored. */
  | 'finish'
  /** The runtime, the store or the end of the process made it impossible. */
  | 'fail'
  /** Somebody cancelled it by its id, for everybody. */
  | 'cancel'
  /** Its deadline passed. */
  | 'expire'
  /** Somebody begins to wait for it: a join, an adoption. */
  | 'join'
  /** Its last waiter left. */
  | 'leave'
  /** Its handle was given out. */
  | 'detach'
  /** The grace of an orphan is over. */
  | 'abandon'

const ENDINGS = { fail: 'failed', cancel: 'cancelled', expire: 'expired' } as const

/** State x event -> next state. */
export const TRANSITIONS: Readonly<Record<LifeState, Readonly<Partial<Record<LifeEvent, LifeState>>>>> = {
  'queued/attended': {
    ...ENDINGS,
    start: 'running/attended',
    join: 'queued/attended',
    leave: 'queued/orphan',
    detach: 'queued/detached',
  },
  'queued/orphan': {
    ...ENDINGS,
    start: 'running/orphan',
    join: 'queued/attended',
    abandon: 'cancelled',
  },
  'queued/detached': {
    ...ENDINGS,
    start: 'running/detached',
    join: 'queued/detached',
    leave: 'queued/detached',
    detach: 'queued/detached',
  },
  'running/attended': {
    ...ENDINGS,
    finish: 'succeeded',
    join: 'running/attended',
    leave: 'running/orphan',
    detach: 'running/detached',
  },
  'running/orphan': {
    ...ENDINGS,
    finish: 'succeeded',
    join: 'running/attended',
    abandon: 'cancelled',
  },
  'running/detached': {
    ...ENDINGS,
    finish: 'succeeded',
    join: 'running/detached',
    leave: 'running/detached',
    detach: 'running/detached',
  },
  succeeded: {},
  failed: {},
  cancelled: {},
  expired: {},
}

/** Where an event leads; undefined when it changes nothing in that state. */
export function next(state: LifeState, event: LifeEvent): LifeState | undefined {
  return TRANSITIONS[state][event]
}

/** The public state of a job: without who holds it. */
export function publicState(state: LifeState): 'queued' | 'running' | EndState {
  return state.split('/')[0] as 'queued' | 'running' | EndState
}
