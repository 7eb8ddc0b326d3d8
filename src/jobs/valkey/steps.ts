/** The steps of this server's runs: all that have something to say are told to the book together. */
import type { StepProgress } from '../../runtimes/runtime.ts'
import type { Book } from './book/book.ts'
import { createThrottle } from './throttle.ts'

/** Steps are reported at most this often, in milliseconds. */
const TICK_MS = 250
/** The same where more runs than MANY report: who watches one picture of many needs no more. */
const SLOW_TICK_MS = 1000
const MANY = 100

export type Steps = ReturnType<typeof createSteps>

/** Nothing to tell yet. */
export function createSteps({ book }: { readonly book: Pick<Book, 'progress'> }) {
  const due = new Map<string, { run: number; progress: StepProgress; onLost: () => void }>()
  let told = 0

  const ticks = createThrottle({
    everyMs: () => (told > MANY ? SLOW_TICK_MS : TICK_MS),
    async act() {
      const now = new Map(due)
      due.clear()
      told = now.size
      if (told === 0) return
      const steps = [...now].map(([id, { run, progress }]) => [id, run, JSON.stringify(progress)] as const)
      // Away: the next beat tells.
      for (const id of await book.progress({ steps }).catch(() => [])) now.get(id)?.onLost()
    },
  })

  return {
    /** How far a run is; the latest counts. `onLost` is called when the run turns out to be another worker's. */
    report(id: string, step: { run: number; progress: StepProgress; onLost: () => void }): void {
      due.set(id, step)
      ticks.ask()
    },
    /** The run is over: what it said and was not told yet is of no interest. */
    forget(id: string): void {
      due.delete(id)
    },
    stop: () => ticks.stop(),
  }
}
