import { MAX_RERUNS, replicasContract } from '../../../test/backends/jobs-replicas.ts'
import { createMemoryJobs } from './jobs.ts'

replicasContract('replicas and jobs in memory', async (parts) => ({
  jobs: createMemoryJobs({ ...parts, maxReruns: MAX_RERUNS }),
}))
