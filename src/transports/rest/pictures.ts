/** Pictures over REST: making, listing, sending and deleting them. */
import { type Context, Hono } from 'hono'
import { requireScope } from '../../auth/scopes.ts'
import { AppError } from '../../errors.ts'
import type { ImageStore } from '../../images/image.ts'
import type { Links } from '../../images/links.ts'
import { generate } from '../../jobs/generate.ts'
import { hasEnded, type Job, type Jobs } from '../../jobs/job.ts'
import { imageRequest } from '../../runtimes/request.ts'
import { describeJob, throwIfFailed } from '../../tools/image/image-answer.ts'
import { makePreview } from '../../tools/image/lazy-preview.ts'
import { describeImage, listing, pageOfImages } from '../../tools/image/list-images.ts'
import { parseInput } from '../../tools/tool.ts'
import { readJson } from '../body.ts'
import type { AppEnv } from '../context.ts'
import { clientSignal } from '../leaving.ts'
import { needs } from '../method-scopes.ts'
import { streamJob } from './job-stream.ts'
import { accepts, numbers, preferenceOf, submissionOf } from './request.ts'

const PREVIEW = { maxSide: 1024, maxBytes: 512 * 1024 }

export interface PictureRoutesParts {
  readonly jobs: Jobs
  readonly images: ImageStore
  readonly links: Links
  readonly maxBodyBytes: number
  readonly waitBudgetMs: number
}

type Ctx = Context<AppEnv>

/** `/api/images` and `/images`. */
export function pictureRoutes(parts: PictureRoutesParts): Hono<AppEnv> {
  const { jobs, images, links } = parts
  const describe = (job: Job) => describeJob(job, links.relativeOrAbsolute)

  const sendHandle = (c: Ctx, job: Job) => {
    c.header('Location', `/api/jobs/${job.id}`)
    c.header('Retry-After', '1')
    return c.json(describe(job), 202)
  }

  const sendPng = async (c: Ctx, job: Job) => {
    const stored = await images.get(job.imageId)
    if (!stored)
      throw new AppError('not_found', 'The picture was deleted before it could be sent; generate it again.')
    c.header('Content-Location', `/images/${job.imageId}`)
    c.header('X-Job-Id', job.id)
    c.header('X-Image-Id', job.imageId)
    c.header('X-Seed', String(stored.record.seed))
    return sendPicture(c, stored.png, 'image/png')
  }

  /** The record of one of the caller's pictures. @throws AppError `not_found`, also for another caller's. */
  const ownRecord = async (c: Ctx, id: string) => {
    const record = await images.head(id)
    if (!record || record.owner !== c.var.caller.id) throw noSuchPicture()
    return record
  }

  const app = new Hono<AppEnv>()

  app.post('/api/images', needs('image:generate'), async (c) => {
    const request = parseInput(imageRequest, await readJson(c.req.raw, { maxBytes: parts.maxBodyBytes }))
    const { respondAsync, waitMs = parts.waitBudgetMs } = preferenceOf(c)
    const { caller } = c.var
    if (!respondAsync && accepts(c, 'text/event-stream')) {
      const waiter = await jobs.submit(request, caller, submissionOf(c))
      return streamJob(c, { watch: waiter.watch, describe, waiter })
    }
    // A caller that asks for the handle alone does not wait: its job goes on even when the connection is lost.
    const wait = respondAsync ? { budgetMs: 0 } : { budgetMs: waitMs, signal: clientSignal(c) }
    const job = await generate({ jobs, request, caller, submission: submissionOf(c), ...wait })
    if (respondAsync) {
      c.header('Preference-Applied', 'respond-async')
      return sendHandle(c, job)
    }
    throwIfFailed(job)
    if (!hasEnded(job)) return sendHandle(c, job)
    return accepts(c, 'image/png') ? await sendPng(c, job) : c.json(describe(job))
  })

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

  return app
}

const noSuchPicture = () =>
  new AppError('not_found', 'There is no such picture; it may have expired or been deleted.')

/** Pictures are private, may be kept by the browser only, and are never interpreted as anything else. */
function sendPicture(c: Ctx, bytes: Uint8Array, mediaType: string) {
  c.header('Content-Type', mediaType)
  c.header('Cache-Control', 'private, max-age=300')
  c.header('Referrer-Policy', 'no-referrer')
  return c.body(bytes as Uint8Array<ArrayBuffer>)
}
