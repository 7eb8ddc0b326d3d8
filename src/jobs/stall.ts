/**
 * Runs that hang: those that report no step for many times what a step takes, and those that report no steps at all for
 * many times what the whole picture takes. What steps take is learned, by size.
 */
import type { StepProgress } from '../runtimes/runtime.ts'
import type { Work } from './estimate.ts'

/** A step, or a picture, may take this many times what it takes otherwise. */
const TIMES = 10
/** And at least this long, in milliseconds: networks and machines have their moments. */
const FLOOR_MS = 30_000
/** Before the first step, and for a picture without steps, longer: models warm up, and compile themselves. */
const FIRST_FLOOR_MS = 120_000
/** Sizes whose steps are remembered. */
const SIZES = 64
/** How much a new step counts in what is remembered. */
const SHARE = 0.2

export type Stalls = ReturnType<typeof createStalls>

/** A run that is watched. */
export interface Watched {
  /** The runtime reported a step. */
  stepped(progress: StepProgress): void
  /** The run is over. @param isDone true where it made the picture. */
  end(isDone: boolean): void
}

/** Knows nothing of any step yet. */
export function createStalls() {
  /** Milliseconds of one step by size; the size that was seen last comes last. */
  const steps = new Map<string, number>()
  /** Whether the last picture came with steps. */
  let hasSteps = false

  function learn(size: string, ms: number): void {
    const known = steps.get(size)
    steps.delete(size)
    steps.set(size, known === undefined ? ms : known + SHARE * (ms - known))
    if (steps.size > SIZES) steps.delete(steps.keys().next().value as string)
  }

  return {
    /**
     * @param run.estimateMs what the whole picture should take, in milliseconds; absent: unknown.
     * @param run.onStuck called once, with the milliseconds without a sign of life.
     */
    watch(run: {
      readonly work: Work
      readonly estimateMs: number | undefined
      readonly onStuck: (silentMs: number) => void
    }): Watched {
      const { work, estimateMs, onStuck } = run
      const size = `${work.width}x${work.height}`
      let last: { step: number; at: number } | undefined
      let since = performance.now()
      /** The longest step of this run, which may be slower than those before. */
      let slowestMs = 0
      /** Time until the first step, warming up included: it counts where nothing better is known. */
      let firstMs = 0
      let timer: NodeJS.Timeout | undefined

      /** Milliseconds that the silence may last; undefined: too little is known. */
      function patience(): number | undefined {
        const stepMs = Math.max(steps.get(size) ?? firstMs, slowestMs)
        if (last) return Math.max(FLOOR_MS, TIMES * stepMs)
        if (hasSteps) return Math.max(FIRST_FLOOR_MS, TIMES * stepMs)
        return estimateMs === undefined ? undefined : Math.max(FIRST_FLOOR_MS, TIMES * estimateMs)
      }

      /** Looks when the patience of now would be over; steps in between only move that. */
      function look(): void {
        const ms = patience()
        const silentMs = performance.now() - since
        if (ms !== undefined && silentMs >= ms) onStuck(silentMs)
        else {
          timer = setTimeout(look, ms === undefined ? FIRST_FLOOR_MS : ms - silentMs + 1)
          timer.unref()
        }
      }

      look()

      return {
        stepped({ step }) {
          const now = performance.now()
          if (last && step > last.step) {
            const stepMs = (now - last.at) / (step - last.step)
            slowestMs = Math.max(slowestMs, stepMs)
            learn(size, stepMs)
          }
          const isFirst = last === undefined
          if (isFirst) firstMs = (now - since) / step
          last = { step, at: now }
          since = now
          hasSteps = true
          // From now on patience is shorter than what the timer was set for.
          if (!isFirst) return
          clearTimeout(timer)
          look()
        },
        end(isDone) {
          clearTimeout(timer)
          if (isDone && !last) hasSteps = false
        },
      }
    },
  }
}
