/** Closed loops of 1, 2, 4 ... callers up to the concurrency, each alone: how long does a picture take beside others? */
import { setting } from '../lib/environment.ts'
import { queueWatch } from '../lib/queue.ts'
import type { Mix } from '../lib/settings.ts'

export const MIX: Mix = setting('MIX') ?? { rest: 100 }
const CONCURRENCY = setting('CONCURRENCY')
const SECONDS = setting('PHASE_SECONDS') ?? 20

const powers = Array.from({ length: Math.ceil(Math.log2(CONCURRENCY)) }, (_, index) => 2 ** index)
const levels = [...powers, CONCURRENCY]

export const scenarios = {
  ...Object.fromEntries(
    levels.map((vus, index) => [
      `callers-${vus}`,
      {
        executor: 'constant-vus' as const,
        vus,
        startTime: `${index * SECONDS}s`,
        duration: `${SECONDS}s`,
        gracefulStop: '3600s',
      },
    ]),
  ),
  watch: queueWatch(levels.length * SECONDS),
}
