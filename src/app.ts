/** The Hono app: middleware in its order, then the routes. */
import { Hono, type MiddlewareHandler } from 'hono'
import { cors } from 'hono/cors'
import type { Authenticate } from './auth/authenticate.ts'
import type { Held } from './auth/held.ts'
import type { CheckOrigin } from './auth/origin.ts'
import { METADATA_PATH, protectedResource } from './auth/protected-resource.ts'
import type { RateLimit } from './auth/rate-limit.ts'
import { AppError } from './errors.ts'
import type { Logger } from './telemetry/log.ts'
import type { Metrics } from './telemetry/metrics.ts'
import { readJson } from './transports/body.ts'
import type { AppEnv } from './transports/context.ts'
import { answerErrors } from './transports/error-answer.ts'
import { identifyCaller } from './transports/identify-caller.ts'
import { onAnswerEnd } from './transports/leaving.ts'
import type { McpEndpoint } from './transports/mcp.ts'
import { openApiRoutes } from './transports/openapi.ts'
import { healthRoutes, metricsRoutes } from './transports/operations.ts'
import { requestTarget } from './transports/peer.ts'
import type { Readiness } from './transports/readiness.ts'
import { METHODS, recordRequest } from './transports/record-request.ts'
import { type RestParts, restRoutes } from './transports/rest/rest.ts'
import type { WebSockets } from './transports/websocket/websockets.ts'

export interface AppParts extends RestParts {
  readonly mcp: McpEndpoint
  readonly webSockets: WebSockets
  readonly readiness: Readiness
  /** Aborted, with an AppError, right before the server closes connections whose answers are not complete. */
  readonly stopping: AbortSignal
  readonly authenticate: Authenticate
  readonly rateLimit: RateLimit
  readonly held: Held
  /** The issuer of JWTs; undefined where none are accepted. */
  readonly issuer: string | undefined
  readonly publicUrl: () => string | undefined
  /** False where everybody who reaches the port may use it. */
  readonly tokenNeeded: boolean
  readonly checkOrigin: CheckOrigin
  readonly metrics: Metrics
  /** False where /metrics has a port of its own. */
  readonly serveMetrics: boolean
  readonly log: Logger
  readonly version: string
}

/** Response headers that a browser shows to scripts, besides the few that it always shows. */
const EXPOSED_HEADERS = [
  'Content-Location',
  'Location',
  'Mcp-Protocol-Version',
  'Mcp-Session-Id',
  'Preference-Applied',
  'Retry-After',
  'WWW-Authenticate',
  'X-Image-Id',
  'X-Job-Id',
  'X-Request-Id',
  'X-Seed',
]
/** How long a browser caches the answer to a preflight; Chromium caches it for two hours at most. */
const PREFLIGHT_SECONDS = 7200

/** The whole HTTP surface. */
export function createApp(parts: AppParts): Hono<AppEnv> {
  const { checkOrigin, publicUrl } = parts
  const app = new Hono<AppEnv>()

  app.use(recordRequest(parts))
  app.use(async (c, next) => {
    checkOrigin({ host: c.req.header('host'), origin: c.req.header('origin'), target: requestTarget(c) })
    await next()
  })
  app.use(allowCrossOrigin())
  app.use(identifyCaller(parts))

  for (const path of ['', '/mcp'] as const)
    app.get(METADATA_PATH + path, (c) => {
      const url = publicUrl()
      if (url === undefined)
        throw new AppError('not_found', 'Set PUBLIC_URL: only it says where clients reach this server.')
      return c.json(protectedResource({ publicUrl: url, path, issuer: parts.issuer }))
    })
  app.post('/mcp', async (c) => {
    const body = await readJson(c.req.raw, { maxBytes: parts.maxBodyBytes })
    const { caller, requestId, reasonOfClosing } = c.var
    // One request has one answer.
    const onSent = (_: unknown, done: () => void) => onAnswerEnd(c, done)
    return await parts.mcp.fetch(c.req.raw, { body, caller, requestId, reasonOfClosing, onSent })
  })
  app.get('/ws', (c) => parts.webSockets.accept(c))
  app.route('/', healthRoutes(parts))
  if (parts.serveMetrics) app.route('/', metricsRoutes(parts.metrics))
  app.route('/', restRoutes(parts))
  app.route('/', openApiRoutes({ ...parts, tools: [...parts.toolCaller.tools.values()] }))

  app.notFound((c) => {
    const allowed = METHODS.filter((method) =>
      app.router.match(method, c.req.path)[0].some(([[, route]]) => route.path !== '/*'),
    )
    if (allowed.length === 0)
      throw new AppError('not_found', 'There is nothing at this path; the README lists the routes.')
    c.header('Allow', allowed.join(', '))
    throw new AppError(
      'method_not_allowed',
      `This path answers ${allowed.join(' and ')}, not ${c.req.method}.`,
    )
  })
  app.onError(answerErrors(parts))

  return app
}

/** CORS. An Origin that comes this far is an allowed one. There are no cookies, so no credentials either. */
function allowCrossOrigin(): MiddlewareHandler<AppEnv> {
  const allow = cors({
    origin: (origin) => origin,
    allowMethods: [...METHODS],
    exposeHeaders: EXPOSED_HEADERS,
    maxAge: PREFLIGHT_SECONDS,
  })
  return async (c, next) => {
    if (c.req.header('origin') !== undefined) return await allow(c, next)
    c.header('Vary', 'Origin')
    await next()
  }
}
