/** Config -> the parts of a server, wired together; the same for every entry. */
import { randomBytes } from 'node:crypto'
import packageJson from '../package.json' with { type: 'json' }
import { createApp } from './app.ts'
import { createAuthenticate } from './auth/authenticate.ts'
import { createOriginCheck } from './auth/origin.ts'
import { createRateLimit } from './auth/rate-limit.ts'
import type { Config } from './config.ts'
import { createTrino } from './datasources/trino.ts'
import { createXdp } from './datasources/xdp.ts'
import { createFilesystemImages } from './images/filesystem.ts'
import type { ImageStore } from './images/image.ts'
import { createLinks } from './images/links.ts'
import { createMemoryImages } from './images/memory.ts'
import { scheduleSweep } from './images/sweep.ts'
import type { Jobs, JobsOptions } from './jobs/job.ts'
import { createMemoryJobs } from './jobs/memory.ts'
import { createTargets, type Target } from './runtimes/targets.ts'
import type { Logger } from './telemetry/log.ts'
import { createMetrics } from './telemetry/metrics.ts'
import { cancelImageJob } from './tools/image/cancel-job.ts'
import { generateImage } from './tools/image/generate.ts'
import { getImageJob } from './tools/image/get-job.ts'
import { listImages } from './tools/image/list-images.ts'
import { listImageModels } from './tools/image/list-models.ts'
import { createToolCaller } from './tools/tool.ts'
import { createTrinoAccess } from './tools/trino/access.ts'
import { describeTable } from './tools/trino/describe-table.ts'
import { executeQuery } from './tools/trino/execute-query.ts'
import { listCatalogs } from './tools/trino/list-catalogs.ts'
import { listSchemas } from './tools/trino/list-schemas.ts'
import { listTables } from './tools/trino/list-tables.ts'
import { listDatastores } from './tools/xdp/list-datastores.ts'
import {
  createMcpEndpoint,
  createMcpServerFactory,
  type McpEndpoint,
  type McpParts,
} from './transports/mcp.ts'
import { metricsRoutes } from './transports/operations.ts'
import { createReadiness } from './transports/readiness.ts'
import { createWebSockets } from './transports/websocket/websockets.ts'

export const VERSION: string = packageJson.version

export type Parts = Awaited<ReturnType<typeof createParts>>

/**
 * Builds everything but the listener.
 * @throws AppError or Error with a sentence when a store cannot be opened.
 */
export async function createParts({
  config,
  log,
  mcpEndpoint = createMcpEndpoint,
}: {
  config: Config
  log: Logger
  /** Another one, for tests of the middleware and transports around it. */
  mcpEndpoint?: (parts: McpParts) => McpEndpoint
}) {
  const { images: settings, waitBudgetMs } = config
  let publicUrl = config.publicUrl
  const metrics = createMetrics()
  const targets = createTargets(config.targets)
  const images = await openImages(config, log)
  const randomKey = randomBytes(32).toString('base64url')
  const links = createLinks({
    publicUrl: () => publicUrl,
    keys: () => settings.urlKey?.read().split(',') ?? [randomKey],
  })
  const jobs = await openJobs(config, {
    targets,
    images,
    deadlineMs: config.jobDeadlineMs,
    orphanGraceMs: config.orphanGraceMs,
    ttlSeconds: settings.ttlSeconds,
    log,
    metrics,
  })
  const answer = { jobs, images, links, inlineMaxBytes: settings.inlineMaxBytes, waitBudgetMs }
  const data = openData(config, log)
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
  const readiness = createReadiness({
    dependencies: [
      ...targets.map(({ name, runtime }) => ({
        name: `runtime:${name}`,
        toolset: 'image',
        check: (options: { signal: AbortSignal }) => runtime.check(options),
      })),
      ...(config.jobs.backend === 'valkey'
        ? [{ name: 'jobs:valkey', toolset: 'image', required: true, check: jobs.check }]
        : []),
      ...data.dependencies,
      ...(images.check
        ? [{ name: `images:${settings.backend}`, toolset: 'image', required: true, check: images.check }]
        : []),
    ],
    log,
  })
  const mcpParts = { ...answer, toolCaller, ttlSeconds: settings.ttlSeconds, version: VERSION, log }
  const mcp = mcpEndpoint(mcpParts)
  const authenticate = createAuthenticate({ ...config.auth, log })
  const rateLimit = createRateLimit({ perMinute: config.rateLimitPerMinute })
  const webSockets = createWebSockets({
    serverFactory: createMcpServerFactory(mcpParts),
    toolCaller,
    authenticate,
    rateLimit,
    limits: config.webSocket,
    log,
  })
  const app = createApp({
    ...answer,
    toolCaller,
    mcp,
    webSockets,
    readiness,
    authenticate,
    rateLimit,
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
    /** The listener is there: links and readiness may say so. */
    listening({ port }: { port: number }) {
      const host = config.host.includes(':') ? `[${config.host}]` : config.host
      if (config.loopback) publicUrl ??= `http://${host}:${port}`
      readiness.set('serving')
      if (data.tools.length === 0) warmUp(targets, log)
      if (!settings.urlKey)
        log.info({ event: 'IMAGE_URL_KEY is not set', effect: 'links to pictures end with this process' })
      log.info({
        event: 'listening',
        url: publicUrl ?? `http://${host}:${port}`,
        port,
        version: VERSION,
        targets: targets.map(({ name, kind }) => `${name} (${kind})`),
        jobs: config.jobs.backend,
        images: settings.backend,
        runtime_service: config.runtimeService,
        authentication: describeAuth(config.auth),
      })
    },
    /** Stops taking work, finishes what was accepted, and closes what is open; resolves when the process may end. */
    async drain() {
      log.info({ event: 'draining', delay_ms: config.drainDelayMs, at_most_ms: config.drainMs })
      readiness.set('draining')
      await new Promise((resolve) => setTimeout(resolve, config.drainDelayMs))
      const timeoutMs = config.drainMs
      await Promise.all([webSockets.drain({ timeoutMs }), jobs.drain({ timeoutMs })])
    },
    async close() {
      stopSweep()
      await webSockets.close()
      await mcp.close()
      await jobs.close()
      await Promise.all(targets.map(({ runtime }) => runtime.close()))
      await images.close()
      await data.close()
      log.info({ event: 'stopped' })
    },
  }
}

/** Where pictures are all that there is, the first one should not wait for a model. */
function warmUp(targets: readonly Target[], log: Logger): void {
  for (const { name, runtime } of targets)
    runtime.warmUp?.().catch(({ message }: Error) => {
      log.warn({ event: 'dependency', name: `runtime:${name}`, ok: false, message })
    })
}

/** The job backend that the configuration names. */
async function openJobs({ jobs, valkeyUrl }: Config, options: JobsOptions): Promise<Jobs> {
  const { backend, lockMs, maxReruns } = jobs
  if (backend === 'memory' || !valkeyUrl) return createMemoryJobs(options)
  const { createValkeyJobs } = await import('./jobs/valkey/jobs.ts')
  return await createValkeyJobs({ ...options, url: valkeyUrl, lockMs, maxReruns })
}

/** The means of authentication in words, for the log. */
function describeAuth({ token, tokens, jwt }: Config['auth']): string {
  const means = [token && 'one token', tokens && 'named tokens', jwt && `JWTs of ${jwt.issuer}`].filter(
    Boolean,
  )
  return means.join(', ') || 'none'
}

/** The store of pictures that the configuration names. @throws Error with a sentence when it cannot be used. */
async function openImages({ images, valkeyUrl }: Config, log: Logger): Promise<ImageStore> {
  const { backend, directory, maxBytes, valkeyMaxBytes, s3 } = images
  if (backend === 'valkey' && valkeyUrl) {
    const { createValkeyImages } = await import('./images/valkey.ts')
    return await createValkeyImages({ url: valkeyUrl, maxBytes: valkeyMaxBytes, log })
  }
  if (backend === 'filesystem') return await createFilesystemImages({ directory, maxBytes })
  if (!s3) return createMemoryImages({ maxBytes })
  const { endpoint, bucket, region, prefix, accessKey, secretKey } = s3
  const { createS3Images } = await import('./images/s3.ts')
  return await createS3Images({
    endpoint,
    bucket,
    region,
    ...(prefix === undefined ? {} : { prefix }),
    accessKey: () => accessKey.read(),
    secretKey: () => secretKey.read(),
  })
}

/** The data toolsets that are configured: their tools, and what those depend on. */
function openData(config: Config, log: Logger) {
  const { cluster: where, maxRows, maxBytes, ...bounds } = config.trino
  const cluster =
    where &&
    createTrino({
      url: where.url,
      ...(where.user === undefined ? {} : { user: where.user }),
      ...(where.password === undefined ? {} : { password: () => where.password!.read() }),
      ...(where.jwt === undefined ? {} : { jwt: () => where.jwt!.read() }),
      ...(where.caFile === undefined ? {} : { caFile: where.caFile }),
    })
  const keys = config.xdp
  const xdp =
    keys &&
    createXdp({
      baseUrl: keys.baseUrl,
      accessKey: () => keys.accessKey.read(),
      secretKey: () => keys.secretKey.read(),
      timeoutMs: keys.timeoutMs,
    })
  const access = createTrinoAccess({ cluster, xdp, limits: { maxRows, maxBytes }, ...bounds, log })
  const trinoTools = [executeQuery, listCatalogs, listSchemas, listTables, describeTable]
  return {
    tools: [
      ...(xdp ? [listDatastores({ xdp, log })] : []),
      ...(cluster || xdp ? trinoTools.map((make) => make(access)) : []),
    ],
    dependencies: [
      ...(xdp ? [{ name: 'xdp', toolset: 'xdp', check: xdp.check }] : []),
      ...(cluster ? [{ name: 'trino', toolset: 'trino', check: cluster.check }] : []),
    ],
    async close() {
      await Promise.all([xdp?.close(), cluster?.close()])
    },
  }
}
