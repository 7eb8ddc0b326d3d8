/** One attempt at a picture, on the replica that was granted: what it teaches the pool, and whether another one follows. */
import { AppError, toAppError } from '../errors.ts'
import type { Pool } from '../runtimes/pool/pool.ts'
import type { Runtime } from '../runtimes/runtime.ts'
import type { Figures } from './figures.ts'

/** The replica did not draw the picture, and another one may: the job is to run again. */
export class RunAgain extends Error {
  /** What callers read if no run follows. */
  readonly error: AppError

  constructor(error: AppError) {
    super(error.message, { cause: error })
    this.name = 'RunAgain'
    this.error = error
  }
}

export interface AttemptOptions {
  readonly pool: Pool
  /** The id of the granted replica. */
  readonly replica: string
  /** Of the target. */
  readonly figures: Pick<Figures, 'estimate' | 'stalls'>
}

/**
 * The granted replica, for `makePicture`. `generate` rejects with RunAgain where another replica may do better, and
 * otherwise as Runtime says. Where replicas come and go, a run that hangs is ended.
 */
export function attemptOn({ pool, replica, figures }: AttemptOptions): Pick<Runtime, 'generate'> {
  return {
    async generate(request, { signal, onProgress, requestId }) {
      const hung = new AbortController()
      const watched = pool.changes
        ? figures.stalls.watch({
            work: request,
            estimateMs: figures.estimate(request),
            onStuck: (silentMs) => hung.abort(hangs(silentMs)),
          })
        : undefined
      let isDone = false
      try {
        const image = await pool.runtimeOf(replica).generate(request, {
          signal: watched ? AbortSignal.any([signal, hung.signal]) : signal,
          onProgress(progress) {
            watched?.stepped(progress)
            onProgress?.(progress)
          },
          requestId,
        })
        isDone = true
        pool.learn(replica, {})
        return image
      } catch (thrown) {
        // Who stops a run says nothing about the replica.
        if (signal.aborted) throw thrown
        const stuck = hung.signal.aborted
        const error = stuck ? hung.signal.reason : toAppError(thrown)
        if (pool.learn(replica, { error, stuck })) throw new RunAgain(error)
        throw error
      } finally {
        watched?.end(isDone)
      }
    },
  }
}

function hangs(silentMs: number): AppError {
  return new AppError(
    'runtime_failed',
    `The diffusion runtime hangs: it made no step for ${Math.round(silentMs / 1000)} s. Please try again.`,
  )
}
