/** Whether one replica works, from what its runs taught and from probes where no run did. */

/** Between two probes of a replica that is not ready, and of one that no run has spoken for; in milliseconds. */
const UNREADY_MS = 2000
const SELDOM_MS = 15_000
/** A ready replica that missed a probe is probed again after this; that many in a row eject it. */
const SUSPECT_MS = 1000
const MISSES = 2
/** An ejected replica is probed after this, twice as long after each further time, until it has made a picture again. */
const BACK_OFF_MS = 1000
const LONGEST_BACK_OFF_MS = 60_000
/** Pictures in a row that a replica answers wrongly before it is ejected. */
const FAILURES = 3
/** A replica that is busy and does not say how long gets nothing for this long; what it says counts up to the bound. */
const BUSY_MS = 1000
const LONGEST_BUSY_MS = 60_000

export type HealthState =
  /** Found, and not ready yet. */
  | 'starting'
  | 'ready'
  /** It refused a picture, and may take one again in a moment. */
  | 'busy'
  /** It did not work; probes decide when it is back. */
  | 'ejected'

export type Health = ReturnType<typeof createHealth>

/**
 * The health of a replica that was just found. The first probe begins at once.
 * @param options.probe rejects where the replica cannot take a picture; has to end by itself.
 * @param options.onChange called after every change of `state()`.
 */
export function createHealth(options: {
  readonly probe: (signal: AbortSignal) => Promise<void>
  readonly onChange: () => void
}) {
  const { probe, onChange } = options
  const closing = new AbortController()
  let condition: 'starting' | 'ready' | 'ejected' = 'starting'
  let busyUntil = Number.NEGATIVE_INFINITY
  let why: string | undefined
  let ejections = 0
  let ejectionsInRow = 0
  let failuresInRow = 0
  let missed = 0
  let workedAt = Number.NEGATIVE_INFINITY
  let hasLooked = false
  /** A probe whose number is not this one is out of date. */
  let number = 0
  let timer: NodeJS.Timeout | undefined
  let busyTimer: NodeJS.Timeout | undefined

  function probeIn(ms: number): void {
    clearTimeout(timer)
    if (closing.signal.aborted) return
    // Spread, so that many servers and replicas do not probe in step.
    timer = setTimeout(() => void look(), ms * (0.9 + Math.random() * 0.2))
    timer.unref()
  }

  async function look(): Promise<void> {
    if (condition === 'ready' && performance.now() - workedAt < SELDOM_MS) return probeIn(SELDOM_MS)
    number += 1
    const own = number
    let error: Error | undefined
    await probe(closing.signal).catch((thrown) => {
      error = thrown
    })
    if (own !== number || closing.signal.aborted) return
    const isFirst = !hasLooked
    hasLooked = true
    if (!error) {
      missed = 0
      why = undefined
      probeIn(SELDOM_MS)
      become('ready', isFirst)
      return
    }
    why = error.message
    missed += 1
    const isSuspect = condition === 'ready' && missed < MISSES
    probeIn(isSuspect ? SUSPECT_MS : UNREADY_MS)
    become(condition === 'ready' && !isSuspect ? 'ejected' : condition, isFirst)
  }

  function become(next: typeof condition, isNews = false): void {
    if (next === condition && !isNews) return
    if (next === 'ejected' && condition !== 'ejected') ejections += 1
    condition = next
    onChange()
  }

  /** It does not work. Several runs that find out together count once. */
  function eject(reason: string): void {
    if (condition !== 'ready') return
    number += 1
    why = reason
    ejectionsInRow += 1
    missed = 0
    probeIn(Math.min(BACK_OFF_MS * 2 ** (ejectionsInRow - 1), LONGEST_BACK_OFF_MS))
    become('ejected')
  }

  /** A timer counts from when the event loop last woke: where that was long ago it fires early, and looks again. */
  function tellWhenFree(): void {
    clearTimeout(busyTimer)
    const leftMs = busyUntil - performance.now()
    if (leftMs <= 0) {
      onChange()
      return
    }
    busyTimer = setTimeout(tellWhenFree, Math.ceil(leftMs))
    busyTimer.unref()
  }

  void look()

  return {
    state(): HealthState {
      return condition === 'ready' && busyUntil > performance.now() ? 'busy' : condition
    },
    /** What the last probe or run said against it. */
    why: () => why,
    /** Times that it was ejected. */
    ejections: () => ejections,
    /** False until the first probe has ended. */
    hasLooked: () => hasLooked,

    /** A picture came. */
    worked(): void {
      workedAt = performance.now()
      failuresInRow = 0
      if (condition === 'ready') ejectionsInRow = 0
    },
    /** It took no request. @param ms how long it wants none; absent: it did not say. */
    busy(ms = BUSY_MS): void {
      const bounded = Math.min(Math.max(ms, BUSY_MS), LONGEST_BUSY_MS)
      busyUntil = Math.max(busyUntil, performance.now() + bounded)
      tellWhenFree()
      onChange()
    },
    eject,
    /** It answered, and made no picture. True where that happens too often: it is ejected then. */
    failed(reason: string): boolean {
      failuresInRow += 1
      if (failuresInRow < FAILURES) return false
      eject(reason)
      return true
    },
    close(): void {
      closing.abort()
      clearTimeout(timer)
      clearTimeout(busyTimer)
    },
  }
}
