/** One attempt at a picture, on the replica that was granted: what it teaches the pool, and whether another one follows. */
import { type AppError, toAppError } from '../errors.ts'
import type { Pool } from '../runtimes/pool/pool.ts'
import type { Runtime } from '../runtimes/runtime.ts'

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

/**
 * The granted replica, for `makePicture`. `generate` rejects with RunAgain where another replica may do better, and
 * otherwise as Runtime says.
 */
export function attemptOn({ pool, replica }: { pool: Pool; replica: string }): Pick<Runtime, 'generate'> {
  return {
    async generate(request, options) {
      try {
        const image = await pool.runtimeOf(replica).generate(request, options)
        pool.learn(replica, {})
        return image
      } catch (thrown) {
        // Who stops a run says nothing about the replica.
        if (options.signal.aborted) throw thrown
        const error = toAppError(thrown)
        if (pool.learn(replica, { error })) throw new RunAgain(error)
        throw error
      }
    },
  }
}
