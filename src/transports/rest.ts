/** REST: pictures, jobs and tools in plain HTTP. */
import { type Context, Hono } from 'hono'
import { streamSSE } from 'hono/streaming'
import { z } from 'zod'
import { requireScope } from '../auth/scopes.ts'
import { AppError, toAppError } from '../errors.ts'
import type { ImageStore } from '../images/image.ts'
import type { Links } from '../images/links.ts'
import { followJob } from '../jobs/follow.ts'
import { generate } from '../jobs/generate.ts'
import { hasEnded, type Job, type Jobs, type Waiter } from '../jobs/job.ts'
import { imageRequest } from '../runtimes/request.ts'
import { describeJob, throwIfFailed } from '../tools/image/image-answer.ts'
import { makePreview } from '../tools/image/lazy-preview.ts'
import { describeImage, listing, pageOfImages } from '../tools/image/list-images.ts'
import { idempotencyKeySchema, parseInput, type ToolCaller } from '../tools/tool.ts'
import { readJson } from './body.ts'
import type { AppEnv } from './context.ts'
import { KEEP_ALIVE_MS } from './keep-alive.ts'
import { needs } from './method-scopes.ts'

const MAX_WAIT_SECONDS = 3600
const PREVIEW = { maxSide: 1024, maxBytes: 512 * 1024 }

export interface RestParts {
  readonly jobs: Jobs
  readonly images: ImageStore
  readonly links: Links
  readonly toolCaller: ToolCaller
  readonly maxBodyBytes: number
  readonly waitBudgetMs: number
}

type Ctx = Context<AppEnv>

/** All REST routes; errors leave as AppError for the app to answer. */
export function restRoutes(parts: RestParts): Hono<AppEnv> {
  const { jobs, images, links, toolCaller } = parts
  const describe = (job: Job) => describeJob(job, links.relativeOrAbsolute)
  const body = (c: Ctx) => readJson(c.req.raw, { maxBytes: parts.maxBodyBytes })

  const handle = (c: Ctx, job: Job) => {
    c.header('Location', `/api/jobs/${job.id}`)
    c.header('Retry-After', '1')
    return c.json(describe(job), 202)
  }

  /**
   * A job's life as an event stream: `progress` until it ends, then `result`, or `error` where there is no picture; or
   * `handle` where this server stops and another one goes on.
   */
  const stream = (
    c: Ctx,
    {
      watch,
      detach,
      leave,
    }: Pick<Waiter, 'leave' | 'detach'> & { watch: (signal: AbortSignal) => AsyncIterable<Job> },
  ) => {
    c.header('X-Accel-Buffering', 'no')
    return streamSSE(
      c,
      async (events) => {
        const gone = new AbortController()
        events.onAbort(() => gone.abort())
        const keepAlive = setInterval(() => void events.write(': keep-alive\n\n'), KEEP_ALIVE_MS)
        try {
          let last: Job | undefined
          for await (const job of watch(gone.signal)) {
            last = job
            const event = !hasEnded(job) ? 'progress' : job.error ? 'error' : 'result'
            await events.writeSSE({
              event,
              data: JSON.stringify(event === 'error' ? problem(job) : describe(job)),
            })
          }
          if (last && !hasEnded(last) && !gone.signal.aborted) {
            await detach()
            await events.writeSSE({ event: 'handle', data: JSON.stringify(describe(last)) })
          }
        } finally {
          clearInterval(keepAlive)
          await leave()
        }
      },
      async (error, events) => {
        await events.writeSSE({ event: 'error', data: JSON.stringify(toAppError(error).toPublic()) })
      },
    )
  }
  const problem = (job: Job) => ({ ...job.error, job_id: job.id, state: job.state })

  /** What is known of one of the caller's pictures. @throws AppError `not_found`, also for another caller's. */
  const ownRecord = async (c: Ctx, id: string) => {
    const record = await images.head(id)
    if (!record || record.owner !== c.var.caller.id) throw noSuchPicture()
    return record
  }

  const app = new Hono<AppEnv>()

  app.post('/api/images', needs('image:generate'), async (c) => {
    const request = parseInput(imageRequest, await body(c))
    const { respondAsync, waitMs = parts.waitBudgetMs } = preferenceOf(c)
    const { caller } = c.var
    if (!respondAsync && accepts(c, 'text/event-stream'))
      return stream(c, await jobs.submit(request, caller, submission(c)))
    // A caller that asked for the handle alone is not waited with: the job stays even when the connection is lost.
    const wait = respondAsync ? { budgetMs: 0 } : { budgetMs: waitMs, signal: c.req.raw.signal }
    const job = await generate({ jobs, request, caller, submission: submission(c), ...wait })
    if (respondAsync) {
      c.header('Preference-Applied', 'respond-async')
      return handle(c, job)
    }
    throwIfFailed(job)
    if (!hasEnded(job)) return handle(c, job)
    if (!accepts(c, 'image/png')) return c.json(describe(job))
    const stored = await images.get(job.imageId)
    if (!stored)
      throw new AppError('not_found', 'The picture was deleted before it could be sent; generate it again.')
    c.header('Content-Location', `/images/${job.imageId}`)
    c.header('X-Job-Id', job.id)
    c.header('X-Image-Id', job.imageId)
    c.header('X-Seed', String(stored.record.seed))
    return sendPicture(c, stored.png, 'image/png')
  })

  app.get('/api/jobs/:id', needs('image:read'), async (c) => {
    const id = c.req.param('id')
    const { caller } = c.var
    const job = await jobs.get(id, caller)
    if (accepts(c, 'text/event-stream'))
      return stream(c, {
        watch: (signal) => jobs.watch(id, caller, signal),
        async detach() {},
        async leave() {},
      })
    const { waitMs } = preferenceOf(c)
    if (waitMs === undefined || hasEnded(job)) return c.json(describe(job))
    const watch = (signal: AbortSignal) => jobs.watch(id, caller, signal)
    return c.json(describe(await followJob({ watch, budgetMs: waitMs, signal: c.req.raw.signal })))
  })

  app.delete('/api/jobs/:id', needs('image:generate'), async (c) =>
    c.json(describe(await jobs.cancel(c.req.param('id'), c.var.caller))),
  )

  app.get('/api/queue', needs('image:read'), (c) => c.json({ targets: jobs.queue() }))

  app.get('/images', needs('image:read'), async (c) => {
    const { limit, ...rest } = c.req.query()
    const page = parseInput(listing, { ...rest, ...numbers({ limit }) })
    return c.json(await pageOfImages({ images, caller: c.var.caller, page, link: links.relativeOrAbsolute }))
  })

  app.get('/images/:id', async (c) => {
    const id = c.req.param('id')
    const linked = c.var.linkedImage === id
    if (!linked) requireScope(c.var.caller, 'image:read')
    const { variant = 'full' } = c.req.query()
    if (variant !== 'full' && variant !== 'preview')
      throw new AppError('invalid_request', 'variant must be "full" or "preview".')
    const stored = await images.get(id)
    if (!stored || (!linked && stored.record.owner !== c.var.caller.id)) throw noSuchPicture()
    if (variant === 'full') return sendPicture(c, stored.png, stored.record.media_type)
    const preview = await makePreview(stored.png, PREVIEW)
    return sendPicture(c, preview.bytes, preview.media_type)
  })

  app.get('/images/:id/metadata', needs('image:read'), async (c) => {
    return c.json(describeImage(await ownRecord(c, c.req.param('id')), links.relativeOrAbsolute))
  })

  app.delete('/images/:id', needs('image:generate'), async (c) => {
    const { id } = await ownRecord(c, c.req.param('id'))
    await images.delete(id)
    return c.body(null, 204)
  })

  app.post('/api/tools/list', (c) =>
    c.json({ tools: [...toolCaller.tools.values()].map(({ listing }) => listing) }),
  )

  app.post('/api/tools/execute', async (c) => {
    const { tool, params } = parseInput(toolCall, await body(c))
    const { structured, content } = await toolCaller.call(tool, params, {
      caller: c.var.caller,
      signal: c.req.raw.signal,
      ...submission(c),
    })
    return c.json({ tool, data: structured, content })
  })

  /** Routes of their own for two tools, where those are configured. */
  const callTool = async (c: Ctx, tool: string, args: unknown) => {
    const context = { caller: c.var.caller, signal: c.req.raw.signal, ...submission(c) }
    return c.json((await toolCaller.call(tool, args, context)).structured)
  }
  if (toolCaller.tools.has('xdp_list_datastores'))
    app.get('/api/xdp/datastores', (c) => {
      const { page, size, ...rest } = c.req.query()
      return callTool(c, 'xdp_list_datastores', { ...rest, ...numbers({ page, size }) })
    })
  if (toolCaller.tools.has('trino_execute_query'))
    app.post('/api/trino/query', async (c) => callTool(c, 'trino_execute_query', await body(c)))

  return app
}

/** Query parameters as numbers; what is no number stays as it is, to be named when it is refused. */
function numbers(given: Record<string, string | undefined>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(given)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, /^-?\d+$/.test(value!) ? Number(value) : value]),
  )
}

const toolCall = z.strictObject({
  tool: z.string().min(1).max(100),
  params: z.record(z.string(), z.unknown()).optional(),
})

const noSuchPicture = () =>
  new AppError('not_found', 'There is no such picture; it may have expired or been deleted.')

/** Pictures are private, may be kept by the browser only, and are never interpreted as anything else. */
function sendPicture(c: Ctx, bytes: Uint8Array, mediaType: string) {
  c.header('Content-Type', mediaType)
  c.header('Cache-Control', 'private, max-age=300')
  c.header('Referrer-Policy', 'no-referrer')
  return c.body(bytes as Uint8Array<ArrayBuffer>)
}

function accepts(c: Ctx, mediaType: string): boolean {
  return (c.req.header('accept') ?? '').split(',').some((part) => part.split(';')[0]?.trim() === mediaType)
}

/** RFC 7240: `respond-async` and `wait=N` (seconds). @throws AppError `invalid_request` for another N. */
function preferenceOf(c: Ctx): { respondAsync: boolean; waitMs?: number } {
  const preferences = (c.req.header('prefer') ?? '').split(',').map((part) => part.trim().toLowerCase())
  const wait = preferences.find((part) => part.startsWith('wait='))?.slice('wait='.length)
  return {
    respondAsync: preferences.includes('respond-async'),
    ...(wait === undefined ? {} : { waitMs: secondsToMs('Prefer: wait', wait, MAX_WAIT_SECONDS) }),
  }
}

/**
 * What comes with a request besides its body: `X-Request-Timeout` in seconds (when the picture stops being worth
 * making) and `Idempotency-Key`. @throws AppError `invalid_request`
 */
function submission(c: Ctx): { requestId: string; deadlineMs?: number; idempotencyKey?: string } {
  const timeout = c.req.header('x-request-timeout')
  const key = c.req.header('idempotency-key')
  return {
    requestId: c.var.requestId,
    ...(timeout === undefined
      ? {}
      : { deadlineMs: Math.max(1, secondsToMs('X-Request-Timeout', timeout, 86_400)) }),
    ...(key === undefined ? {} : parseInput(idempotencyHeader, { 'Idempotency-Key': key })),
  }
}

const idempotencyHeader = z
  .object({ 'Idempotency-Key': idempotencyKeySchema })
  .transform((headers) => ({ idempotencyKey: headers['Idempotency-Key'] }))

function secondsToMs(name: string, text: string, max: number): number {
  const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (!(seconds <= max))
    throw new AppError(
      'invalid_request',
      `${name} must be a number of seconds from 0 to ${max} (got ${JSON.stringify(text)}).`,
    )
  return Math.round(seconds * 1000)
}
