/** The book of jobs in Valkey: typed commands over one script, where every change of a job is made. */
import { readFileSync } from 'node:fs'
import type { PublicError } from '../../../errors.ts'
import type { ImageRecord } from '../../../images/image.ts'
import type { GenerationRequest } from '../../../runtimes/request.ts'
import type { Valkey } from '../../../valkey/connection.ts'
import { type AdmissionView, REFUSED_AS, type RefusedBecause } from '../../admission.ts'
import { abandoned, cancelled, expired } from '../../endings.ts'
import type { WorkModel } from '../../figures.ts'
import type { Job, JobState, Refusal } from '../../job.ts'
import { type EndState, type LifeState, publicState, TRANSITIONS } from '../../lifecycle.ts'

/** The parts of the script, in the order in which they build on each other. */
const PARTS = ['base', 'order', 'life', 'admission', 'views', 'commands']
/** Tables that TypeScript and Lua share: one source for every backend. */
const TABLES = { __TRANSITIONS__: TRANSITIONS, __REFUSED_AS__: REFUSED_AS }
/** Part of every key: servers with another layout of the book do not touch this one's. */
const LAYOUT = 'v3'
/** Jobs, waiters or runs that one script takes at most: Valkey serves nobody else meanwhile. */
const SLICE = 200

/** A part of the script, its shared tables filled in. */
export function readPart(name: string): string {
  const source = readFileSync(new URL(`./${name}.lua`, import.meta.url), 'utf8')
  return Object.entries(TABLES).reduce(
    (text, [placeholder, table]) => text.replace(placeholder, () => luaTable(table)),
    source,
  )
}

/** What one target does now and what it did so far, shared by all servers. */
export interface Counts {
  readonly queued: number
  readonly running: number
  readonly releasing: number
  readonly admitted: number
  readonly ended: Readonly<Record<EndState, number>>
  readonly refused: Readonly<Record<Refusal, number>>
}

/** What a call, of this server or another, changed. */
export interface Changes {
  /** Jobs that changed their state. */
  readonly changes: readonly { readonly target: string; readonly id: string; readonly state: JobState }[]
  readonly targets: ReadonlyMap<string, Counts>
  /** A finished generation: its target, and the sample as its server wrote it. */
  readonly sample?: readonly [target: string, sample: string]
  /** Progress of runs, StepProgress as JSON: of jobs that have waiters or were read with `watch`. */
  readonly steps: readonly (readonly [id: string, progress: string])[]
}

/** What this server has to follow up after a call of its own. */
export interface Effects {
  readonly targets: ReadonlyMap<string, Counts>
  /** Jobs that this call ended. `startedMs` ago it started, -1: never. */
  readonly ended: readonly {
    readonly target: string
    readonly id: string
    readonly state: EndState
    readonly createdMs: number
    readonly startedMs: number
  }[]
  /** Jobs that got a slot: to be delivered to a worker. */
  readonly granted: readonly { readonly target: string; readonly id: string }[]
}

/** A submission. Milliseconds. */
export interface Submission {
  readonly id: string
  readonly imageId: string
  readonly owner: string
  /** The owner may be anybody, so this submission joins no job. */
  readonly anonymous: boolean
  readonly target: string
  /** GenerationRequest as JSON, its seed fixed. */
  readonly request: string
  readonly requestHash: string
  readonly seeded: boolean
  readonly key?: string
  readonly requestId?: string
  readonly waiter: string
  readonly leaseMs: number
  readonly deadlineMs: number
  readonly graceMs: number
  readonly ttlMs: number
  readonly cost: number
  readonly ownMs?: number
  readonly concurrency: number
  readonly queueLimit: number
  readonly queueLimitOfCaller: number
  /** See AdmissionView. */
  readonly measured: boolean
  readonly stale: boolean
  /** How long the work of others takes; absent while too little is known. */
  readonly model?: WorkModel
  /** True: join what may be joined, admit nothing new. */
  readonly closed: boolean
}

export type Submitted =
  | { readonly verdict: 'conflict' | 'closed' }
  | { readonly verdict: 'succeeded' | 'joined' | 'admitted'; readonly job: Job }
  | { readonly verdict: 'refused'; readonly because: RefusedBecause; readonly view: AdmissionView }

export type Started =
  | { readonly verdict: 'ended' }
  /** Another worker runs it, and is given up in `waitMs` milliseconds unless it says so again. */
  | { readonly verdict: 'held'; readonly waitMs: number }
  | {
      readonly verdict: 'go'
      readonly run: number
      readonly job: Job
      /** By the book's clock, as the job's own times. */
      readonly now: number
      readonly requestId?: string
    }

export type Book = ReturnType<typeof createBook>

/**
 * The commands. Each is one atomic script; `onEffects` hears what a call of this server has to be followed up with.
 * Every command throws AppError `overloaded` while Valkey is away.
 */
export function createBook(options: {
  readonly valkey: Valkey
  readonly prefix: string
  readonly onEffects: (effects: Effects) => void
}) {
  const { valkey, prefix, onEffects } = options
  const keys = `${prefix}:book:${LAYOUT}:`
  valkey.define('book', { numberOfKeys: 1, lua: PARTS.map(readPart).join('\n') })

  async function call<T>(command: string, asked: object, { probe = false, aside = false } = {}): Promise<T> {
    const send = (client: unknown) =>
      (client as { book(...args: string[]): Promise<string> }).book(keys, command, JSON.stringify(asked))
    const reply = await (aside ? valkey.aside(send) : valkey.use(send, { probe }))
    const { ended, granted, targets, behind, ...rest } = JSON.parse(reply)
    onEffects({
      targets: countsOf(targets),
      ended: rows(ended).map(([target, id, state, createdMs, startedMs]) => ({
        target,
        id,
        state,
        createdMs,
        startedMs,
      })),
      granted: rows(granted).map(([target, id]) => ({ target, id })),
    })
    // One script gives away so many slots; the next one goes on at once. What fails is repeated by any server's sweep.
    if (behind) void call('grant', {}).catch(() => {})
    return (
      rest.job
        ? { ...rest, job: toJob(rest.job, rest.now), requestId: rest.job.requestId || undefined }
        : rest
    ) as T
  }

  return {
    /** Where the changes of all servers are published. */
    channel: `${keys}events`,
    /** A message of that channel. */
    readChanges(message: string): Changes {
      const { changes, targets, sample, steps } = JSON.parse(message)
      return {
        changes: rows(changes).map(([target, id, state]) => ({ target, id, state })),
        targets: countsOf(targets ?? {}),
        ...(sample ? { sample } : {}),
        steps: rows(steps).map(([id, progress]) => [id, progress]),
      }
    },

    /** Tells a target's concurrency; returns the last finished generations, newest first. */
    async target(asked: { target: string; concurrency: number }): Promise<readonly string[]> {
      const { samples } = await call<{ samples: unknown }>('target', asked)
      return list<string>(samples)
    },
    submit: (asked: Submission) => call<Submitted>('submit', asked),
    forget: (asked: { id: string }) => call<object>('forget', asked),
    /** @param options.watch the job is followed from now on: its steps are published, also without a waiter. */
    get: async (id: string, { watch = false } = {}) => (await call<{ job?: Job }>('get', { id, watch })).job,
    /** What `get` returns, for many jobs at once; ids that the book does not have are absent. */
    async snapshots({ ids }: { ids: readonly string[] }): Promise<ReadonlyMap<string, Job>> {
      const jobs = new Map<string, Job>()
      for (const slice of slices(ids)) {
        const reply = await call<{ jobs: unknown; now: number }>('snapshots', { ids: slice }, { aside: true })
        for (const row of list<Row>(reply.jobs)) jobs.set(row.id as string, toJob(row, reply.now))
      }
      return jobs
    },
    /** The job after the event; unchanged where it is another owner's. */
    event: async (asked: { id: string; owner: string; event: 'cancel' | 'detach' }) =>
      (await call<{ job?: Job }>('event', asked)).job,
    leave: (asked: { id: string; waiter: string }) => call<object>('leave', asked),
    /** Returns the ids whose waiters need not renew any more. */
    async renew(asked: { waiters: readonly (readonly [id: string, waiter: string])[]; leaseMs: number }) {
      const over: string[] = []
      for (const waiters of slices(asked.waiters))
        over.push(...list<string>((await call<{ over: unknown }>('renew', { ...asked, waiters })).over))
      return over
    },
    start: (asked: {
      id: string
      target: string
      /** Who asks: when the answer got lost and it asks again, the run is its own already. */
      attempt: string
      lockMs: number
      maxReruns: number
      /** What a job has to say whose re-runs are used up. */
      exhausted: string
    }) => call<Started>('start', asked),
    /** Returns the ids of runs that have to be aborted. */
    async beat(asked: { runs: readonly (readonly [id: string, run: number])[]; lockMs: number }) {
      const lost: string[] = []
      for (const runs of slices(asked.runs))
        lost.push(...list<string>((await call<{ lost: unknown }>('beat', { ...asked, runs })).lost))
      return lost
    },
    /** How far runs are, StepProgress as JSON. Returns the ids of those that have to be aborted. */
    async progress(asked: { steps: readonly (readonly [id: string, run: number, progress: string])[] }) {
      const lost: string[] = []
      for (const steps of slices(asked.steps))
        lost.push(...list<string>((await call<{ lost: unknown }>('progress', { steps })).lost))
      return lost
    },
    /** told: this call ended the job. late: it had ended. lost: the job is another worker's. */
    finish: (asked: {
      id: string
      target: string
      run: number
      event: 'finish' | 'fail' | 'release'
      /** The image's record, or the public error; as JSON. */
      outcome?: string
      sample?: string
      model?: WorkModel
    }) => call<{ verdict: 'told' | 'late' | 'lost' }>('finish', asked),
    handback: (asked: { id: string; run: number }) => call<object>('handback', asked),
    sweep: (asked: { leases: boolean; targets: readonly string[] }) =>
      call<object>('sweep', asked, { probe: true }),
  }
}

/** A job as the book keeps it: a hash of strings. */
type Row = Readonly<Record<string, string | undefined>>

/** @param now the book's clock. The job's expected end is told in this process's own time. */
function toJob(row: Row, now: number): Job {
  const expectedAt =
    row.expectedAt === undefined ? undefined : performance.now() + Number(row.expectedAt) - now
  const time = (name: string) => (row[name] === undefined ? {} : { [name]: Math.round(Number(row[name])) })
  const job = {
    id: row.id as string,
    imageId: row.imageId as string,
    owner: row.owner as string,
    target: row.target as string,
    request: JSON.parse(row.request as string) as GenerationRequest,
    state: publicState(row.life as LifeState),
    createdAt: Number(row.createdAt),
    ...time('startedAt'),
    ...time('endedAt'),
    deadlineAt: Number(row.deadlineAt),
    ...time('position'),
    ...(expectedAt === undefined ? {} : { expectedAt }),
    ...(row.progress === undefined ? {} : { progress: JSON.parse(row.progress) }),
    ...(row.image === undefined ? {} : { image: JSON.parse(row.image) as ImageRecord }),
  } as Job
  const error = errorOf(row, job)
  return error ? { ...job, error } : job
}

function errorOf(row: Row, job: Job): PublicError | undefined {
  switch (row.reason) {
    case 'cancel':
      return cancelled().toPublic()
    case 'abandon':
      return abandoned().toPublic()
    case 'expire':
      return expired(job).toPublic()
    case 'fail':
      return JSON.parse(row.error as string)
    default:
      return undefined
  }
}

function countsOf(targets: Record<string, Record<string, string | number>>): ReadonlyMap<string, Counts> {
  return new Map(
    Object.entries(targets).map(([target, row]) => {
      const count = (name: string) => Number(row[name] ?? 0)
      return [
        target,
        {
          queued: count('queued'),
          running: count('running'),
          releasing: count('releasing'),
          admitted: count('admitted'),
          ended: {
            succeeded: count('ended:succeeded'),
            failed: count('ended:failed'),
            cancelled: count('ended:cancelled'),
            expired: count('ended:expired'),
          },
          refused: {
            overloaded: count('refused:overloaded'),
            rate_limited: count('refused:rate_limited'),
            deadline_exceeded: count('refused:deadline_exceeded'),
            conflict: count('refused:conflict'),
          },
        },
      ]
    }),
  )
}

/** Lua encodes an empty list as an empty object. */
const list = <T>(value: unknown): T[] => (Array.isArray(value) ? value : [])
// biome-ignore lint/suspicious/noExplicitAny: rows of mixed types, read by position right where this is called.
const rows = (value: unknown) => list<any[]>(value)

/** What one script takes at a time, so that nobody waits long for it. */
function* slices<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < items.length; at += SLICE) yield items.slice(at, at + SLICE)
}

function luaTable(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value)
  const fields = Object.entries(value as object).map(
    ([key, field]) => `[${JSON.stringify(key)}]=${luaTable(field)}`,
  )
  return `{${fields.join(',')}}`
}
