/** A short form of `npm run bench:soak`: after rude clients nothing is left, and the log has nothing to complain about. */
import { expect, test } from 'vitest'
import type { Engine } from '../support/process.ts'
import { soak } from '../support/soak.ts'

export function soakContract(engine: Engine): void {
  test.skipIf(process.platform !== 'linux')(
    'drops, aborts and half bodies leave nothing behind',
    async () => {
      const report = await soak({ engine, seconds: 10, perSecond: 20, idleSeconds: 0 })
      expect(report.complaints).toEqual([])
      expect(report.failures).toEqual([])
      expect(Object.keys(report.statuses).filter((status) => status >= '500')).toEqual([])
      expect(report.statuses[499]).toBeGreaterThan(0)
    },
  )
}
