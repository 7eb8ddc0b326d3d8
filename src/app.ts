/** Parts -> Hono app: middleware in order, then the routes. */
import { randomUUID } from 'node:crypto'
import { type Context, Hono } from 'hono'
import { cors } from 'hono/cors'
import { routePath } from 'hono/route'
import type { Authenticate } from './auth/authenticate.ts'
import type { Caller } from './auth/caller.ts'
import {
  challengeOf,
  METADATA_PATH,
  protectedResource,
  type ResourcePath,
} from './auth/protected-resource.ts'
import type { RateLimit } from './auth/rate-limit.ts'
import { AppError, rpcError, toAppError } from './errors.ts'
import type { ReceivedLink } from './images/links.ts'
import { type Logger, loggablePath } from './telemetry/log.ts'
import type { Metrics } from './telemetry/metrics.ts'
import { readJson } from './transports/body.ts'
import type { AppEnv } from './transports/context.ts'
import type { McpEndpoint } from './transports/mcp.ts'
import { openApiRoutes } from './transports/openapi.ts'
import { healthRoutes, metricsRoutes } from './transports/operations.ts'
import { peerAddress } from './transports/peer.ts'
import type { Readiness } from './transports/readiness.ts'
import { type RestParts, restRoutes } from './transports/rest/rest.ts'
import { authorizationOfProtocols, type WebSockets } from './transports/websocket/websockets.ts'

export interface AppParts extends RestParts {
  readonly mcp: McpEndpoint
  readonly webSockets: WebSockets
  readonly readiness: Readiness
  readonly authenticate: Authenticate
  readonly rateLimit: RateLimit
  /** Who issues JWTs; absent where none are accepted. */
  readonly issuer: string | undefined
  readonly publicUrl: () => string | undefined
  /** False where whoever reaches the port may use it. */
  readonly tokenNeeded: boolean
  readonly checkOrigin: (headers: { host?: string; origin?: string }) => void
  readonly metrics: Metrics
  /** False where /metrics has a port of its own. */
  readonly serveMetrics: boolean
  readonly log: Logger
  readonly version: string
}

const PROBES: ReadonlySet<string> = new Set(['/health', '/ready', '/metrics'])
/** What is answered to everybody; all else is closed, whether a route knows it or not. */
const OPEN_PATHS: ReadonlySet<string> = new Set([...PROBES, METADATA_PATH, `${METADATA_PATH}/mcp`])
const METHODS = ['GET', 'POST', 'DELETE'] as const
const KNOWN_METHODS: ReadonlySet<string> = new Set([...METHODS, 'HEAD', 'OPTIONS'])
/** What a browser's script may see of an answer besides the few headers that it may see in any case. */
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
/** How long a browser remembers what it may send; Chromium's own bound is two hours. */
const PREFLIGHT_SECONDS = 7200

/** The whole HTTP surface. */
export function createApp(parts: AppParts): Hono<AppEnv> {
  const { log, metrics, authenticate, checkOrigin, rateLimit, publicUrl } = parts
  const app = new Hono<AppEnv>()

  app.use(async (c, next) => {
    const started = performance.now()
    const given = c.req.header('x-request-id')
    c.set('requestId', given && /^[\w.-]{1,64}$/.test(given) ? given : randomUUID())
    c.header('X-Request-Id', c.var.requestId)
    c.header('X-Content-Type-Options', 'nosniff')
    await next()
    // Load balancers send no new connections to a server that drains; kept ones would stay until it refuses.
    if (parts.readiness.isDraining() && !c.var.upgraded) c.header('Connection', 'close')
    const status = c.var.upgraded ? 101 : c.res.status
    const seconds = (performance.now() - started) / 1000
    const route = routePath(c, -1)
    // Deno hands on whatever word a client makes up, and each would be a time series.
    const method = KNOWN_METHODS.has(c.req.method) ? c.req.method : 'other'
    metrics.httpRequests.inc({ route, method, status })
    metrics.httpSeconds.observe({ route }, seconds)
    log[PROBES.has(c.req.path) ? 'debug' : 'info']({
      event: 'request',
      request_id: c.var.requestId,
      method: c.req.method,
      path: loggablePath(c.req.url),
      status,
      ms: Math.round(seconds * 1000),
    })
  })

  app.use(async (c, next) => {
    const host = c.req.header('host')
    const origin = c.req.header('origin')
    checkOrigin({ ...(host === undefined ? {} : { host }), ...(origin === undefined ? {} : { origin }) })
    await next()
  })

  // Whoever comes this far with an Origin is on the list of allowed ones. No cookies, so no credentials.
  const allowCrossOrigin = cors({
    origin: (origin) => origin,
    allowMethods: [...METHODS],
    exposeHeaders: EXPOSED_HEADERS,
    maxAge: PREFLIGHT_SECONDS,
  })
  app.use(async (c, next) => {
    if (c.req.header('origin') !== undefined) return await allowCrossOrigin(c, next)
    c.header('Vary', 'Origin')
    await next()
  })

  app.use(async (c, next) => {
    if (OPEN_PATHS.has(c.req.path)) return await next()
    const link = linkOf(c)
    if (link) {
      parts.links.verify(link)
      c.set('linkedImage', link.id)
      return await next()
    }
    const address = peerAddress(c)
    const caller = await authenticated(c).catch((error) => {
      // Whoever failed is counted by the network, so that nobody's own limit can be used up by others.
      rateLimit.charge({ address })
      throw error
    })
    rateLimit.charge({ caller, address })
    c.set('caller', caller)
    await next()
  })

  async function authenticated(c: Context<AppEnv>): Promise<Caller> {
    // RFC 6750, section 2.3, advises against it: URLs end up in logs and histories.
    if (c.req.query('access_token') !== undefined)
      throw new AppError(
        'unauthenticated',
        'A token in the URL is refused, and should be replaced: send the header "Authorization: Bearer <token>".',
      )
    const inProtocols = c.req.path === '/ws' ? c.req.header('sec-websocket-protocol') : undefined
    return await authenticate(c.req.header('authorization') ?? authorizationOfProtocols(inProtocols))
  }

  for (const path of ['', '/mcp'] as const)
    app.get(METADATA_PATH + path, (c) => {
      const url = publicUrl()
      if (url === undefined)
        throw new AppError('not_found', 'Set PUBLIC_URL: only it says where clients reach this server.')
      return c.json(protectedResource({ publicUrl: url, path, issuer: parts.issuer }))
    })

  app.post('/mcp', async (c) => {
    const body = await readJson(c.req.raw, { maxBytes: parts.maxBodyBytes })
    const { caller, requestId } = c.var
    return await parts.mcp.fetch(c.req.raw, { body, caller, requestId })
  })
  app.get('/ws', (c) => parts.webSockets.accept(c))
  app.route('/', healthRoutes(parts))
  if (parts.serveMetrics) app.route('/', metricsRoutes(metrics))
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

  app.onError((thrown, c) => {
    const error = toAppError(thrown)
    if (error.isForOperator)
      log.error({ event: 'request failed', request_id: c.var.requestId, err: error.cause })
    if (error.retryAfterSeconds !== undefined) c.header('Retry-After', String(error.retryAfterSeconds))
    // What is left of an over-long body must not be taken for the next request.
    if (error.code === 'too_large') c.header('Connection', 'close')
    const path: ResourcePath = c.req.path === '/mcp' ? '/mcp' : ''
    const presented = c.req.header('authorization') !== undefined
    const challenge = challengeOf(error, { publicUrl: publicUrl(), path, presented })
    if (challenge) c.header('WWW-Authenticate', challenge)
    const body = c.req.path === '/mcp' ? rpcError(error) : problem(error, c.var.requestId)
    return c.newResponse(JSON.stringify(body), error.status as 400, {
      'Content-Type': c.req.path === '/mcp' ? 'application/json' : 'application/problem+json',
    })
  })

  return app
}

/** A signed link stands for the permission to GET one picture, and for nothing else. */
function linkOf(c: Context): ReceivedLink | undefined {
  const id = c.req.method === 'GET' ? /^\/images\/([^/]+)$/.exec(c.req.path)?.[1] : undefined
  const { exp, variant = 'full', sig } = c.req.query()
  return id === undefined || sig === undefined ? undefined : { id, exp, variant, sig }
}

/** RFC 9457; `detail` is the public message. */
function problem(error: AppError, requestId: string) {
  const { message: detail, ...rest } = error.toPublic()
  return {
    type: 'about:blank',
    title: error.code.replaceAll('_', ' '),
    status: error.status,
    detail,
    ...rest,
    request_id: requestId,
  }
}
