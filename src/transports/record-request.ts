/** Gives every request an id, and records it in the log and in two metrics. */
import { randomUUID } from 'node:crypto'
import type { MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import { ERROR_STATUS } from '../errors.ts'
import type { Jobs } from '../jobs/job.ts'
import { type Logger, loggablePath } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { AppEnv } from './context.ts'
import { onAnswerEnd, reasonOfClosing } from './leaving.ts'
import { PROBE_PATHS } from './operations.ts'
import type { Readiness } from './readiness.ts'
import { createRefusalLog } from './refusal-log.ts'

export const METHODS = ['GET', 'POST', 'DELETE'] as const
const KNOWN_METHODS: ReadonlySet<string> = new Set([...METHODS, 'HEAD', 'OPTIONS'])

/** The outermost middleware. It records a request when its answer is sent, or its connection closed before. */
export function recordRequest(parts: {
  readonly readiness: Readiness
  readonly jobs: Pick<Jobs, 'isCutOff'>
  readonly stopping: AbortSignal
  readonly metrics: Metrics
  readonly log: Logger
}): MiddlewareHandler<AppEnv> {
  const { readiness, jobs, stopping, metrics, log } = parts
  const reason = reasonOfClosing(stopping)
  const refusalLevel = createRefusalLog(log)
  return async (c, next) => {
    const started = performance.now()
    const given = c.req.header('x-request-id')
    c.set('requestId', given && /^[\w.-]{1,64}$/.test(given) ? given : randomUUID())
    c.set('reasonOfClosing', reason)
    c.header('X-Request-Id', c.var.requestId)
    c.header('X-Content-Type-Options', 'nosniff')
    await next()
    // Load balancers open no new connections to a server that is not ready. The kept ones must be closed by the server.
    const betterElsewhere = readiness.isDraining() || jobs.isCutOff()
    if (betterElsewhere && !c.var.upgraded) c.header('Connection', 'close')
    const route = routePath(c, -1)
    // A client could make up any word as the method, and each would become a time series.
    const method = KNOWN_METHODS.has(c.req.method) ? c.req.method : 'other'
    metrics.httpSeconds.observe({ route }, (performance.now() - started) / 1000)
    const record = (status: number, outcome?: string) => {
      metrics.httpRequests.inc({ route, method, status })
      const isRefused = status >= 400 && c.get('caller') === undefined && c.get('linkedImage') === undefined
      log[PROBE_PATHS.has(c.req.path) ? 'debug' : isRefused ? refusalLevel() : 'info']({
        event: 'request',
        request_id: c.var.requestId,
        method: c.req.method,
        path: loggablePath(c.req.url),
        status,
        outcome,
        ms: Math.round(performance.now() - started),
      })
    }
    if (c.var.upgraded) return record(101)
    const { status } = c.res
    onAnswerEnd(c, (isComplete) => {
      if (isComplete && status !== ERROR_STATUS.client_left) record(status)
      else if (stopping.aborted) record(status, 'cut by the stop of the server')
      // A failure stays one, also where nobody was left to hear of it.
      else record(status < 500 ? ERROR_STATUS.client_left : status, 'client left')
    })
  }
}
