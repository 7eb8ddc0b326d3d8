import { pino } from 'pino'
import { expect, test } from 'vitest'
import { createReplicaWorld } from '../../../test/fakes/replica-world.ts'
import { createMetrics } from '../../telemetry/metrics.ts'
import type { Counts } from './book/book.ts'
import { createLanes } from './lanes.ts'
import type { TargetWorker } from './target-worker.ts'

const counts = (version: number, running: number): ReadonlyMap<string, Counts> => {
  const ended = { succeeded: 0, failed: 0, cancelled: 0, expired: 0 }
  const refused = { overloaded: 0, rate_limited: 0, deadline_exceeded: 0, conflict: 0 }
  return new Map([
    ['gpu', { version, running, concurrency: 2, queued: 0, releasing: 0, admitted: 9, ended, refused }],
  ])
}

test('what a call answered late does not push out what was published since, until Valkey may have begun anew', () => {
  const pool = createReplicaWorld().pool({ seen: { a: 2 } })
  const lanes = createLanes({
    targets: [
      { name: 'gpu', kind: 'simulated', concurrency: 2, queue: 1, queuePerCaller: 1, defaults: {}, pool },
    ],
    server: 'one',
    startWorker: () => ({}) as TargetWorker,
    log: pino({ level: 'silent' }),
    metrics: createMetrics(),
  })
  const running = () => lanes.queue()[0]?.running
  lanes.hear({ changes: [], steps: [], targets: counts(8, 0) })
  lanes.follow({ ended: [], granted: [], targets: counts(7, 1) })
  expect(running()).toBe(0)
  lanes.reconnected()
  lanes.follow({ ended: [], granted: [], targets: counts(1, 2) })
  expect(running()).toBe(2)
})
