/** The choice of a job backend. */
import type { Secret } from '../auth/secret.ts'
import type { Jobs, JobsOptions } from './job.ts'
import { createMemoryJobs } from './memory/jobs.ts'

export interface JobsSettings {
  readonly backend: 'memory' | 'valkey'
  /** Needed for `valkey`. */
  readonly url?: Secret
  /** See ValkeyJobsOptions. */
  readonly lockMs: number
  readonly maxReruns: number
}

/** The job backend that the settings name; what it needs is loaded only then. */
export async function openJobs(settings: JobsSettings, options: JobsOptions): Promise<Jobs> {
  const { backend, url, lockMs, maxReruns } = settings
  if (backend === 'memory' || !url) return createMemoryJobs({ ...options, maxReruns })
  const { createValkeyJobs } = await import('./valkey/jobs.ts')
  return await createValkeyJobs({ ...options, url, lockMs, maxReruns })
}
