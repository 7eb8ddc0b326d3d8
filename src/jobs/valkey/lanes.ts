/** The targets as this server sees them: the counts that all servers share, what their runs taught, and a worker each. */
import type { Target } from '../../runtimes/targets.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Metrics } from '../../telemetry/metrics.ts'
import { createFigures, type Figures } from '../figures.ts'
import { hasEnded, type TargetQueue } from '../job.ts'
import type { Changes, Counts, Effects } from './book/book.ts'
import type { TargetWorker } from './target-worker.ts'

const NOTHING: Counts = {
  version: 0,
  concurrency: 0,
  queued: 0,
  running: 0,
  releasing: 0,
  admitted: 0,
  ended: { succeeded: 0, failed: 0, cancelled: 0, expired: 0 },
  refused: { overloaded: 0, rate_limited: 0, deadline_exceeded: 0, conflict: 0 },
}

export interface Lane {
  readonly target: Target
  readonly figures: Figures
  readonly worker: TargetWorker
  counts: Counts
}

export type Lanes = ReturnType<typeof createLanes>

/** A lane for each target. `server` marks this server's samples, so that it does not learn from them twice. */
export function createLanes(options: {
  readonly targets: readonly Target[]
  readonly server: string
  readonly startWorker: (parts: { target: Target; figures: Figures }) => TargetWorker
  readonly log: Logger
  readonly metrics: Metrics
}) {
  const { targets, server, startWorker, log, metrics } = options
  const lanes = new Map<string, Lane>(
    targets.map((target) => {
      const figures = createFigures(target)
      return [target.name, { target, figures, worker: startWorker({ target, figures }), counts: NOTHING }]
    }),
  )

  function takeCounts(counts: ReadonlyMap<string, Counts>): void {
    for (const [target, now] of counts) {
      const lane = lanes.get(target)
      // What a call answers and what is published come over two connections, in any order.
      if (lane && now.version > lane.counts.version) lane.counts = now
    }
  }

  return {
    get: (target: string) => lanes.get(target) as Lane,
    all: () => [...lanes.values()],

    queue: (): TargetQueue[] =>
      [...lanes.values()].map(({ target, figures, counts: { version: _, ...counts } }) => ({
        target: target.name,
        queue_limit: target.queue,
        ...counts,
        ...figures.report(),
        ...(target.pool.changes && { replicas: target.pool.report() }),
      })),

    /** Valkey was away, and may have begun anew: whatever it tells next is the latest. */
    reconnected(): void {
      for (const lane of lanes.values()) lane.counts = { ...lane.counts, version: 0 }
    },

    /** Follows up a call of this server. */
    follow({ targets: counts, ended, granted }: Effects): void {
      takeCounts(counts)
      for (const { target, id, state, createdMs, startedMs } of ended) {
        lanes.get(target)?.worker.abort(id)
        metrics.jobsEnded.inc({ target, state })
        log.info({
          event: 'job ended',
          job: id,
          target,
          state,
          queued_ms: startedMs < 0 ? createdMs : createdMs - startedMs,
          service_ms: startedMs < 0 ? undefined : startedMs,
        })
      }
      for (const { target, id, grant } of granted)
        lanes
          .get(target)
          ?.worker.deliver(id, grant)
          .catch((error) => log.debug({ event: 'delivery failed', job: id, message: error.message }))
    },

    /** Follows up what a server, this one or another, published. */
    hear({ changes, targets: counts, sample }: Changes): void {
      takeCounts(counts)
      for (const { target, id, state } of changes)
        if (hasEnded({ state })) lanes.get(target)?.worker.abort(id)
      if (!sample) return
      const { by, ...figures } = JSON.parse(sample[1])
      if (by !== server) lanes.get(sample[0])?.figures.observe(figures)
    },
  }
}
