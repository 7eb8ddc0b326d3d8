/** More requests at once than the server takes. */
import { describe, expect, test } from 'vitest'
import type { TargetQueue } from '../../../src/jobs/job.ts'
import { TINY } from '../../support/requests.ts'
import { PATIENT, type Suite } from './server.ts'

export function overload(suite: Suite): void {
  const { post } = suite
  describe('overload', () => {
    test('everything is answered: admitted and delivered, or refused with a time to come back', async () => {
      const answers = await Promise.all(
        Array.from({ length: 300 }, () => post('/api/images', { ...TINY, num_inference_steps: 20 }, PATIENT)),
      )
      const delivered = answers.filter(({ status }) => status === 200)
      const refused = answers.filter(({ status }) => status === 503)
      expect(delivered.length + refused.length).toBe(300)
      // Four slots and a queue of 100 take at least so many, whatever the machine does.
      expect(delivered.length).toBeGreaterThanOrEqual(104)
      for (const { headers } of refused) expect(Number(headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
      const { targets } = (await (await fetch(`${suite.server.url}/api/queue`)).json()) as {
        targets: TargetQueue[]
      }
      for (const { admitted, queued, running, ended } of targets)
        expect(queued + running + ended.succeeded + ended.failed + ended.cancelled + ended.expired).toBe(
          admitted,
        )
    })
  })
}
