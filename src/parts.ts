/** Config -> the parts of a server, wired together. Every entry point uses it. */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import packageJson from '../package.json' with { type: 'json' }
import { createApp } from './app.ts'
import { createAuthenticate } from './auth/authenticate.ts'
import { createHeld } from './auth/held.ts'
import { createOriginCheck } from './auth/origin.ts'
import { createRateLimit } from './auth/rate-limit.ts'
import type { Config } from './config/config.ts'
import { AppError } from './errors.ts'
import type { ImageStore } from './images/image.ts'
import { createLinks } from './images/links.ts'
import { openImages } from './images/open.ts'
import { createOutgoing } from './images/outgoing.ts'
import { createPreviews } from './images/previews.ts'
import { scheduleSweep } from './images/sweep.ts'
import { watchStore } from './images/watch.ts'
import { checkIds } from './jobs/check-ids.ts'
import type { Jobs } from './jobs/job.ts'
import { openJobs } from './jobs/open.ts'
import { createTargets, type Target, type TargetDefinition } from './runtimes/targets.ts'
import type { Logger } from './telemetry/log.ts'
import { createMetrics } from './telemetry/metrics.ts'
import { openDataTools } from './tools/data-tools.ts'
import { cancelImageJob } from './tools/image/cancel-job.ts'
import { generateImage } from './tools/image/generate.ts'
import { getImageJob } from './tools/image/get-job.ts'
import { listImages } from './tools/image/list-images.ts'
import { listImageModels } from './tools/image/list-models.ts'
import { createToolCaller } from './tools/tool.ts'
import {
  createMcpEndpoint,
  createMcpServerFactory,
  type McpEndpoint,
  type McpParts,
} from './transports/mcp.ts'
import { metricsRoutes } from './transports/operations.ts'
import { createReadiness, type Dependency } from './transports/readiness.ts'
import { createWebSockets } from './transports/websocket/websockets.ts'

export const VERSION: string = packageJson.version

export type Parts = Awaited<ReturnType<typeof createParts>>

export interface PartsOptions {
  readonly config: Config
  readonly log: Logger
  /** A replacement, for tests of the middleware and the transports. */
  readonly mcpEndpoint?: (parts: McpParts) => McpEndpoint
}

/**
 * Builds everything but the listener.
 * @throws AppError or Error with a sentence if a store cannot be opened.
 */
export async function createParts({ config, log, mcpEndpoint = createMcpEndpoint }: PartsOptions) {
  const { images: settings, waitBudgetMs } = config
  let publicUrl = config.publicUrl
  const stopping = new AbortController()
  const cut = () =>
    stopping.abort(new AppError('overloaded', 'This server stopped before the call was done; repeat it.'))
  const metrics = createMetrics()
  const targets = createTargets(config.targets, { log })
  metrics.observeReplicas(() => replicasOf(targets))
  const images = watchStore(await openImages({ ...settings, valkeyUrl: config.valkeyUrl, log }), { log })
  const { usage } = images
  if (usage) metrics.observeImages(usage)
  const randomKey = randomBytes(32).toString('base64url')
  const links = createLinks({
    publicUrl: () => publicUrl,
    keys: () => settings.urlKey?.read().split(',') ?? [randomKey],
  })
  const opened = await openJobs(
    { ...config.jobs, url: config.valkeyUrl },
    {
      targets,
      images,
      deadlineMs: config.jobDeadlineMs,
      orphanGraceMs: config.orphanGraceMs,
      ttlSeconds: settings.ttlSeconds,
      log,
      metrics,
    },
  )
  const jobs = checkIds(opened)
  const answer = {
    jobs,
    images,
    links,
    previews: createPreviews({ images }),
    outgoing: createOutgoing(images),
    inlineMaxBytes: settings.inlineMaxBytes,
    waitBudgetMs,
  }
  const data = openDataTools(config, log)
  const toolCaller = createToolCaller({
    tools: [
      generateImage({ ...answer, targets }),
      getImageJob(answer),
      cancelImageJob(answer),
      listImageModels({ targets, jobs }),
      listImages(answer),
      ...data.tools,
    ],
    log,
    metrics,
  })
  const dependencies = [...imageDependencies({ config, targets, jobs, images }), ...data.dependencies]
  const toolsets = data.dependencies.map(({ toolset }) => toolset)
  if (config.isForPictures) toolsets.unshift('image')
  const readiness = createReadiness({ dependencies, toolsets, log })
  const mcpParts = { ...answer, toolCaller, ttlSeconds: settings.ttlSeconds, version: VERSION, log }
  const mcp = mcpEndpoint(mcpParts)
  const authenticate = createAuthenticate({ ...config.auth, log })
  const { rateLimit, held, close: closeLimits } = await openLimits(config, log)
  const webSockets = createWebSockets({
    jobs,
    serverFactory: createMcpServerFactory(mcpParts),
    toolCaller,
    authenticate,
    rateLimit,
    held,
    limits: config.webSocket,
    log,
  })
  const app = createApp({
    ...answer,
    toolCaller,
    mcp,
    webSockets,
    readiness,
    stopping: stopping.signal,
    authenticate,
    rateLimit,
    held,
    issuer: config.auth.jwt?.issuer,
    publicUrl: () => publicUrl,
    tokenNeeded: Object.values(config.auth).some((means) => means !== undefined),
    checkOrigin: createOriginCheck(config),
    metrics,
    serveMetrics: config.metricsPort === undefined,
    maxBodyBytes: config.maxBodyBytes,
    log,
    version: VERSION,
  })
  const stopSweep = scheduleSweep({ store: images, log })

  return {
    app,
    webSockets,
    metricsApp: metricsRoutes(metrics),
    mcpParts,
    /** Call this once the port is open: from then on links are complete and the server reports that it is ready. */
    listening({ port }: { port: number }) {
      const url = `http://${config.host.includes(':') ? `[${config.host}]` : config.host}:${port}`
      if (config.loopback) publicUrl ??= url
      readiness.set('serving')
      if (data.tools.length === 0) warmUp(targets, log)
      if (!settings.urlKey)
        log.info({ event: 'IMAGE_URL_KEY is not set', effect: 'links to pictures end with this process' })
      const described = describeConfig(config)
      log.info({ event: 'listening', url: publicUrl ?? url, port, version: VERSION, ...described })
    },
    /** Refuses new work and finishes accepted work. After that the process may end. */
    async drain() {
      log.info({ event: 'draining', delay_ms: config.drainDelayMs, at_most_ms: config.drainMs })
      readiness.set('draining')
      await sleep(config.drainDelayMs)
      const timeoutMs = config.drainMs
      await Promise.all([webSockets.drain({ timeoutMs }), jobs.drain({ timeoutMs })])
    },
    /**
     * Call this right before you close connections whose answers are not complete. Such calls then count as ended by this
     * server, and not as left by their clients.
     */
    cut,
    /** Closes every connection, after `drain`. */
    async close() {
      cut()
      stopSweep()
      await webSockets.close()
      await mcp.close()
      await closeLimits()
      await jobs.close()
      await Promise.all(targets.map(({ pool }) => pool.close()))
      await images.close()
      await data.close()
      log.info({ event: 'stopped' })
    },
  }
}

/** What bounds a caller. Servers that share their jobs share the count of requests too; any other counts alone. */
async function openLimits(config: Config, log: Logger) {
  const { jobs, valkeyUrl: url, rateLimitPerMinute: perMinute } = config
  const isShared = jobs.backend === 'valkey' && perMinute > 0
  const shared =
    isShared && url
      ? (await import('./auth/shared-count.ts')).createSharedCount({ url, perMinute, log })
      : undefined
  return {
    rateLimit: createRateLimit({ perMinute, shared }),
    held: createHeld({ perCaller: config.maxHeldPerCaller }),
    close: async () => await shared?.close(),
  }
}

/** What this server knows of the replicas of all targets. */
function replicasOf(targets: readonly Target[]) {
  return targets.flatMap(({ name, pool }) => pool.report().map((replica) => ({ target: name, ...replica })))
}

/** Loads the models of a server that only makes pictures, so that the first caller does not wait for it. */
function warmUp(targets: readonly Target[], log: Logger): void {
  for (const { name, pool } of targets)
    pool.warmUp?.().catch(({ message }: Error) => {
      log.warn({ event: 'dependency', name: `runtime:${name}`, ok: false, message })
    })
}

/** What /ready checks for the image tools. */
function imageDependencies({
  config,
  targets,
  jobs,
  images,
}: {
  config: Config
  targets: readonly Target[]
  jobs: Jobs
  images: ImageStore
}): Dependency[] {
  const toolset = 'image'
  const dependencies: Dependency[] = targets.map(({ name, pool }) => ({
    name: `runtime:${name}`,
    toolset,
    check: (options) => pool.check(options),
  }))
  if (config.jobs.backend === 'valkey')
    dependencies.push({ name: 'jobs:valkey', toolset, required: true, check: jobs.check })
  if (images.check)
    dependencies.push({
      name: `images:${config.images.backend}`,
      toolset,
      required: true,
      check: images.check,
    })
  return dependencies
}

/** Where a target's replicas come from; nothing for a plain one. */
function replicasInWords(target: TargetDefinition): string {
  if (target.kind === 'embedded' || target.kind === 'simulated') return ''
  const { urls, discovery, scaleFromZero } = target
  const from = urls ? `, ${urls.length} replicas` : discovery ? ', replicas by DNS' : ''
  return scaleFromZero ? `${from}, scales from zero` : from
}

/** The choices that an operator looks for in the log. */
function describeConfig({ targets, jobs, images, runtimeService, auth }: Config) {
  const { token, tokens, jwt } = auth
  const means = [token && 'one token', tokens && 'named tokens', jwt && `JWTs of ${jwt.issuer}`]
  return {
    targets: targets.map((target) => `${target.name} (${target.kind}${replicasInWords(target)})`),
    jobs: jobs.backend,
    images: images.backend,
    runtime_service: runtimeService,
    authentication: means.filter(Boolean).join(', ') || 'none',
  }
}
