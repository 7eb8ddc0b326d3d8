/** From service times to what a deployment sustains, and to what it needs for a wished rate. */
import { queueModel } from './queueing.ts'

/** A closed loop of `callers`: nobody waits, so a call takes as long as a slot is taken. */
export interface Level {
  readonly callers: number
  readonly calls: number
  /** Mean time of a call in seconds. */
  readonly slotSeconds: number
  /** The runtime's own part of it, in seconds. */
  readonly inferenceSeconds: number
}

/** Pictures per second of a level. */
export const rateOf = ({ callers, slotSeconds }: Level) => callers / slotSeconds

/** More callers that do not even bring this factor only make each other slower. */
const WORTH = 1.05

/** The level up to which every step brought more pictures: its callers are the concurrency to configure. */
export function bestLevel(levels: readonly Level[]): Level {
  if (levels.length === 0) throw new RangeError('No level was measured.')
  return levels.reduce((best, level) => (rateOf(level) > WORTH * rateOf(best) ? level : best))
}

export interface Sizing {
  readonly concurrency: number
  readonly queue: number
  readonly replicas: number
  readonly refusedShare: number
  readonly p95WaitSeconds: number
  /** The rate that it would sustain. */
  readonly sustainedPerSecond: number
}

/** Random arrivals come in bunches: that many of the calls may be refused. */
const REFUSED_SHARE = 0.01
const MAX_SLOTS = 4096

/**
 * The smallest deployment that makes `ratePerSecond` pictures, each within `deadlineSeconds`, and refuses at most 1 % of
 * Poisson arrivals. The queue is the longest that makes sense: whoever is last in it still gets the picture in time.
 * @throws RangeError when a picture takes longer than the deadline, or more than 4096 slots were needed.
 */
export function sizeFor(options: {
  readonly ratePerSecond: number
  readonly deadlineSeconds: number
  readonly slotSeconds: number
  /** Pictures that one replica of the runtime makes at once. */
  readonly slotsPerReplica: number
}): Sizing {
  const { ratePerSecond, deadlineSeconds, slotSeconds, slotsPerReplica } = options
  if (slotSeconds > deadlineSeconds)
    throw new RangeError(
      `A picture takes ${slotSeconds.toFixed(2)} s, longer than the deadline of ${deadlineSeconds} s: allow more time, or fewer steps.`,
    )
  const room = deadlineSeconds / slotSeconds - 1
  for (let replicas = 1; replicas * slotsPerReplica <= MAX_SLOTS; replicas += 1) {
    const concurrency = replicas * slotsPerReplica
    const sustainedPerSecond = concurrency / slotSeconds
    if (sustainedPerSecond < ratePerSecond) continue
    const queue = Math.floor(concurrency * room)
    const model = queueModel({
      ...{ arrivalsPerSecond: ratePerSecond, serviceSeconds: slotSeconds, servers: concurrency },
      places: concurrency + Math.min(queue, 20 * concurrency),
    })
    if (model.refusedShare > REFUSED_SHARE) continue
    const { refusedShare } = model
    return {
      concurrency,
      queue,
      replicas,
      refusedShare,
      p95WaitSeconds: model.waitWithin(0.95),
      sustainedPerSecond,
    }
  }
  throw new RangeError(`${ratePerSecond} pictures/s need more than ${MAX_SLOTS} slots.`)
}
