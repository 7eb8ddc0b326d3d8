/** One call that wants a picture, from its submission to the end of its wait. Every transport calls this. */
import type { Identity } from '../auth/caller.ts'
import type { ImageRequest } from '../runtimes/request.ts'
import { followJob } from './follow.ts'
import { hasEnded, type Job, type Jobs, type SubmitOptions } from './job.ts'

/**
 * Submits a generation and waits until it ends or the budget is used up. A job that goes on is detached first, because
 * the caller then gets its handle. When the signal aborts nobody got a handle, so the job becomes an orphan.
 * @param budgetMs milliseconds this call may wait; 0 hands out the handle at once.
 * @param onChange called with every snapshot, the first included.
 * @returns the last snapshot: ended, or the state behind the handle. A failed job is returned, not thrown.
 * @throws AppError of `Jobs.submit`; the signal's reason once it aborts.
 */
export async function generate(options: {
  readonly jobs: Pick<Jobs, 'submit'>
  readonly request: ImageRequest
  readonly caller: Identity
  readonly submission: SubmitOptions
  readonly budgetMs: number
  readonly signal?: AbortSignal
  readonly onChange?: (job: Job) => void
}): Promise<Job> {
  const { jobs, request, caller, submission, budgetMs, signal, onChange } = options
  const waiter = await jobs.submit(request, caller, submission)
  try {
    const { job: first, watch } = waiter
    const isHandle = budgetMs === 0 && !hasEnded(first)
    if (isHandle) onChange?.(first)
    const job = isHandle ? first : await followJob({ watch, budgetMs, signal, onChange })
    signal?.throwIfAborted()
    if (!hasEnded(job)) await waiter.detach()
    return job
  } finally {
    await waiter.leave()
  }
}
