/** Gives every request an id, and records it in the log and in two metrics. */
import { randomUUID } from 'node:crypto'
import type { MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import type { Jobs } from '../jobs/job.ts'
import { type Logger, loggablePath } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { AppEnv } from './context.ts'
import { PROBE_PATHS } from './operations.ts'
import type { Readiness } from './readiness.ts'

export const METHODS = ['GET', 'POST', 'DELETE'] as const
const KNOWN_METHODS: ReadonlySet<string> = new Set([...METHODS, 'HEAD', 'OPTIONS'])

/** The outermost middleware. */
export function recordRequest(parts: {
  readonly readiness: Readiness
  readonly jobs: Pick<Jobs, 'isCutOff'>
  readonly metrics: Metrics
  readonly log: Logger
}): MiddlewareHandler<AppEnv> {
  const { readiness, jobs, metrics, log } = parts
  return async (c, next) => {
    const started = performance.now()
    const given = c.req.header('x-request-id')
    c.set('requestId', given && /^[\w.-]{1,64}$/.test(given) ? given : randomUUID())
    c.header('X-Request-Id', c.var.requestId)
    c.header('X-Content-Type-Options', 'nosniff')
    await next()
    // Load balancers open no new connections to a server that is not ready. The kept ones must be closed by the server.
    const betterElsewhere = readiness.isDraining() || jobs.isCutOff()
    if (betterElsewhere && !c.var.upgraded) c.header('Connection', 'close')
    const status = c.var.upgraded ? 101 : c.res.status
    const seconds = (performance.now() - started) / 1000
    const route = routePath(c, -1)
    // Deno passes on any word as the method, and each would become a time series.
    const method = KNOWN_METHODS.has(c.req.method) ? c.req.method : 'other'
    metrics.httpRequests.inc({ route, method, status })
    metrics.httpSeconds.observe({ route }, seconds)
    log[PROBE_PATHS.has(c.req.path) ? 'debug' : 'info']({
      event: 'request',
      request_id: c.var.requestId,
      method: c.req.method,
      path: loggablePath(c.req.url),
      status,
      ms: Math.round(seconds * 1000),
    })
  }
}
