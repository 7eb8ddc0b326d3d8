/** Those who watch waiting jobs hear of new places in the queue, without holding up anything else. */
import { change, currentOf, type Entry } from './entry.ts'

/** A round begins at most this often, in milliseconds; as in Valkey (OUTLOOK_MS there). */
const EVERY_MS = 1000
/** Jobs that are told at once, and the pause before the next ones in milliseconds: 1000 jobs a second. */
const SLICE = 100
const PAUSE_MS = 100

export type Outlook = ReturnType<typeof createOutlook>

/** The watchers of one lane's jobs; nobody yet. */
export function createOutlook() {
  const watched = new Set<Entry>()
  let due = false
  let timer: NodeJS.Timeout | undefined
  let begunAt = Number.NEGATIVE_INFINITY

  function wait(ms: number, then: () => void): void {
    timer = setTimeout(() => {
      timer = undefined
      then()
    }, ms)
    timer.unref()
  }

  function next(): void {
    wait(Math.max(0, begunAt + EVERY_MS - performance.now()), begin)
  }

  function begin(): void {
    due = false
    begunAt = performance.now()
    tell([...watched])
  }

  function tell(left: Entry[]): void {
    for (const entry of left.splice(-SLICE)) if (watched.has(entry)) tellPlace(entry)
    if (left.length > 0) wait(PAUSE_MS, () => tell(left))
    else if (due) next()
  }

  return {
    /** The listener is called after every change of the job, and now and then for a new place in the queue. */
    listen(entry: Entry, listener: () => void): void {
      // Whoever comes is told the place at once, and so are those who watch the same job.
      tellPlace(entry)
      entry.listeners.add(listener)
      watched.add(entry)
    },
    unlisten(entry: Entry, listener: () => void): void {
      entry.listeners.delete(listener)
      if (entry.listeners.size === 0) watched.delete(entry)
    },
    /** Places may have moved. */
    ask(): void {
      if (watched.size === 0) return
      due = true
      if (timer === undefined) next()
    },
  }
}

function tellPlace(entry: Entry): void {
  const job = currentOf(entry)
  if (job.position !== entry.job.position || job.starting !== entry.job.starting) change(entry, job)
}
