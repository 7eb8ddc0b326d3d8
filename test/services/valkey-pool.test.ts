/** What every job backend promises of targets with many replicas, held by the one in Valkey over a real server. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import { createValkeyJobs } from '../../src/jobs/valkey/jobs.ts'
import { MAX_RERUNS, replicasContract } from '../backends/jobs-replicas.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

/** Longer than this process stands still: no run is lost and begun again that way. */
const LOCK_MS = 30_000

describe.skipIf(findValkeyServer() === undefined)('on Valkey', () => {
  let valkey: ValkeyServer
  beforeAll(async () => {
    valkey = await startValkey()
  })
  afterAll(() => valkey?.stop())

  replicasContract('replicas and jobs in Valkey', async (parts) => {
    const jobs = await createValkeyJobs({
      ...parts,
      url: fixedSecret(valkey.url),
      lockMs: LOCK_MS,
      maxReruns: MAX_RERUNS,
      prefix: randomUUID(),
    })
    return { jobs, close: () => jobs.close() }
  })
})
