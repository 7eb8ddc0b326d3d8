/** Jobs and the queue over REST. */
import { Hono } from 'hono'
import { z } from 'zod'
import type { Links } from '../../images/links.ts'
import { followJob } from '../../jobs/follow.ts'
import { hasEnded, type Job, type Jobs, type TargetQueue } from '../../jobs/job.ts'
import { describeJob } from '../../tools/image/image-answer.ts'
import type { AppEnv } from '../context.ts'
import { clientSignal } from '../leaving.ts'
import { needs } from '../method-scopes.ts'
import { streamJob } from './job-stream.ts'
import { accepts, preferenceOf } from './request.ts'

export interface JobRoutesParts {
  readonly jobs: Jobs
  readonly links: Links
}

/** What `/api/queue` answers, as far as clients may count on it. */
export const queueAnswer = z.object({
  targets: z.array(
    z.looseObject({
      target: z.string(),
      concurrency: z.int().describe('Generations at once, as things are; 0 where no replica is ready.'),
      queue_limit: z.int(),
      queued: z.int(),
      running: z.int(),
      replicas: z
        .array(
          z.looseObject({
            state: z.enum(['starting', 'ready', 'busy', 'ejected']),
            slots: z.int(),
            in_flight: z.int(),
            made: z.int(),
            ejections: z.int(),
          }),
        )
        .optional()
        .describe('Each replica as this server sees it, where replicas come and go.'),
    }),
  ),
})

/** `/api/jobs/{id}` and `/api/queue`. */
export function jobRoutes({ jobs, links }: JobRoutesParts): Hono<AppEnv> {
  const describe = (job: Job) => describeJob(job, links.relativeOrAbsolute)
  const app = new Hono<AppEnv>()

  app.get('/api/jobs/:id', needs('image:read'), async (c) => {
    const id = c.req.param('id')
    const { caller } = c.var
    const job = await jobs.get(id, caller)
    const watch = (signal: AbortSignal) => jobs.watch(id, caller, signal)
    if (accepts(c, 'text/event-stream')) return streamJob(c, { watch, describe })
    const { waitMs } = preferenceOf(c)
    if (waitMs === undefined || hasEnded(job)) return c.json(describe(job))
    return c.json(describe(await followJob({ watch, budgetMs: waitMs, signal: clientSignal(c) })))
  })

  app.delete('/api/jobs/:id', needs('image:generate'), async (c) =>
    c.json(describe(await jobs.cancel(c.req.param('id'), c.var.caller))),
  )

  app.get('/api/queue', needs('image:read'), (c) => c.json({ targets: jobs.queue().map(forCallers) }))

  return app
}

/** Callers need not know where the replicas are; /metrics names them. */
function forCallers({ replicas, ...target }: TargetQueue) {
  return { ...target, replicas: replicas?.map(({ replica: _, ...seen }) => seen) }
}
