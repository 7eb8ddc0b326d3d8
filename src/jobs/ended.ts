/** What is kept of a job that has ended: what callers see of it, without its prompts. */
import type { ImageStore } from '../images/image.ts'
import { hasEnded, type Job } from './job.ts'

/** How many ended jobs are remembered in all, unless told otherwise. */
export const REMEMBERED = 20_000
/** Idempotency keys that one job may have. An orphan that has so many is adopted under no other one. */
export const MAX_KEYS = 4

/** A request or a record without its prompts. */
export function withoutPrompts<T extends { prompt?: string; negative_prompt?: string }>(of: T) {
  const { prompt: _, negative_prompt: __, ...rest } = of
  return rest
}

/** A job without its prompts: nobody draws it any more, and they are most of what it takes. */
export function keptOf(job: Job): Job {
  const { request, image } = job
  return { ...job, request: withoutPrompts(request), ...(image ? { image: withoutPrompts(image) } : {}) }
}

/** A job for a caller: a finished one gets the prompts of its picture back, as long as its store has them. */
export async function withPrompts(job: Job, images: Pick<ImageStore, 'head'>): Promise<Job> {
  if (!hasEnded(job) || !job.image) return job
  const record = await images.head(job.image.id).catch(() => undefined)
  return record ? { ...job, image: record } : job
}
