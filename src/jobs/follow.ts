/** Waits for a job, as long as one call may. */
import { hasEnded, type Job } from './job.ts'

/**
 * Follows a job until it ends, the budget is used up, or the signal aborts; returns the last snapshot seen.
 * @param budgetMs milliseconds this call may wait.
 * @param onChange called with every snapshot, the first included.
 */
export async function followJob(options: {
  readonly watch: (signal: AbortSignal) => AsyncIterable<Job>
  readonly budgetMs: number
  readonly signal?: AbortSignal
  readonly onChange?: (job: Job) => void
}): Promise<Job> {
  const { watch, budgetMs, signal, onChange } = options
  const over = new AbortController()
  const timer = setTimeout(() => over.abort(), budgetMs)
  const either = signal ? AbortSignal.any([signal, over.signal]) : over.signal
  let last: Job | undefined
  try {
    for await (const job of watch(either)) {
      last = job
      onChange?.(job)
      if (hasEnded(job)) break
    }
  } finally {
    clearTimeout(timer)
  }
  signal?.throwIfAborted()
  return last as Job
}
