/** What every job backend promises, held by the one in Valkey over a real server. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import { createValkeyJobs } from '../../src/jobs/valkey/jobs.ts'
import { jobsContract } from '../backends/jobs.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

/** Longer than this process stands still: no run is lost and begun again that way. */
const LOCK_MS = 30_000

describe.skipIf(findValkeyServer() === undefined)('on Valkey', () => {
  let valkey: ValkeyServer
  beforeAll(async () => {
    valkey = await startValkey()
  })
  afterAll(() => valkey?.stop())

  test('runs on the engine that was asked for', () => {
    expect('Deno' in globalThis).toBe(process.env.ENGINE === 'deno')
  })

  jobsContract('jobs in Valkey', async (parts) => {
    const url = fixedSecret(valkey.url)
    const jobs = await createValkeyJobs({
      ...parts,
      url,
      lockMs: LOCK_MS,
      maxReruns: 3,
      prefix: randomUUID(),
    })
    return { jobs, close: () => jobs.close() }
  })
})
