/** What a job that ended without a picture has to say, where neither runtime nor store is the reason. */
import { AppError } from '../errors.ts'
import type { Job } from './job.ts'

/** Somebody cancelled it by its id. */
export function cancelled(): AppError {
  return new AppError('cancelled', 'The job was cancelled. Ask for the picture again if it is still wanted.')
}

/** The grace of an orphan is over. */
export function abandoned(): AppError {
  return new AppError('cancelled', 'Nobody waited for this picture any more.')
}

/** The deadline passed, in the queue or after the start. */
export function expired(job: Pick<Job, 'createdAt' | 'startedAt' | 'deadlineAt'>): AppError {
  const seconds = Math.round((job.deadlineAt - job.createdAt) / 1000)
  const where = job.startedAt === undefined ? 'waiting in the queue' : 'being made'
  return new AppError(
    'deadline_exceeded',
    `The picture was not ready within ${seconds} s: it was still ${where}. Allow more time, or ask for fewer steps or a smaller size.`,
  )
}

/** Another replica should draw it, and it was begun too often already. @param runs times that it was begun. */
export function ranTooOften(runs: number, { message }: { readonly message: string }): AppError {
  const times = runs === 1 ? 'once' : `${runs} times`
  return new AppError(
    'runtime_failed',
    `The picture was begun ${times}, and no replica of the runtime made it. The last one: ${message}`,
  )
}

/** Another request came under a key that is taken. */
export function keyConflict(): AppError {
  return new AppError(
    'conflict',
    'This idempotency key belongs to another request of yours; send a new key with a new request.',
  )
}

/** The server refuses new work because it stops. */
export function shuttingDown(): AppError {
  return new AppError('overloaded', 'This server is shutting down; send the request again.', {
    retryAfterSeconds: 1,
  })
}

/** No such job, or another caller's. */
export function noSuchJob(quotedId: string): AppError {
  return new AppError(
    'not_found',
    `There is no job ${quotedId}. It may have expired; ask for the picture again.`,
  )
}
