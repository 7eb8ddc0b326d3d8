/** Pictures over REST: making, listing, sending and deleting them. */
import { type Context, Hono } from 'hono'
import { requireScope } from '../../auth/scopes.ts'
import { AppError } from '../../errors.ts'
import type { ImageRecord, ImageStore } from '../../images/image.ts'
import type { Links, Variant } from '../../images/links.ts'
import { type Outgoing, type Receiver, sharedLoad } from '../../images/outgoing.ts'
import type { Previews } from '../../images/previews.ts'
import { generate } from '../../jobs/generate.ts'
import { hasEnded, type Job, type Jobs } from '../../jobs/job.ts'
import { imageRequest } from '../../runtimes/request.ts'
import { describeJob, type ImageAnswer, throwIfFailed } from '../../tools/image/image-answer.ts'
import { describeImage, listing, pageOfImages } from '../../tools/image/list-images.ts'
import { notesOn } from '../../tools/image/notes.ts'
import { parseInput } from '../../tools/tool.ts'
import { readJson } from '../body.ts'
import type { AppEnv } from '../context.ts'
import { clientSignal, onSent } from '../leaving.ts'
import { needs } from '../method-scopes.ts'
import { streamJob } from './job-stream.ts'
import { accepts, numbers, preferenceOf, submissionOf } from './request.ts'

const PREVIEW = { maxBytes: 512 * 1024 }
/** Previews that wait for one caller: those of a page of pictures in a browser, over two connections. */
const MAX_WAITING_PREVIEWS = 16

export interface PictureRoutesParts {
  readonly jobs: Jobs
  readonly images: ImageStore
  readonly links: Links
  readonly previews: Previews
  readonly outgoing: Outgoing
  readonly maxBodyBytes: number
  readonly waitBudgetMs: number
}

type Ctx = Context<AppEnv>

/** `/api/images` and `/images`. */
export function pictureRoutes(parts: PictureRoutesParts): Hono<AppEnv> {
  const { jobs, images, links, previews, outgoing } = parts

  const sendHandle = (c: Ctx, answer: ImageAnswer) => {
    c.header('Location', `/api/jobs/${answer.job_id}`)
    c.header('Retry-After', '1')
    return c.json(answer, 202)
  }

  const sendPng = async (c: Ctx, { id, imageId, image }: Job) => {
    c.header('Content-Location', `/images/${imageId}`)
    c.header('X-Job-Id', id)
    c.header('X-Image-Id', imageId)
    if (!image) throw deletedMeanwhile()
    c.header('X-Seed', String(image.seed))
    return await sendFull(c, image, { caller: c.var.caller })
  }

  const sendFull = async (c: Ctx, record: ImageRecord, receiver: Receiver) => {
    const body = await outgoing.open(record, { receiver, onSent: onSent(c) })
    if (!body) throw deletedMeanwhile()
    describeBody(c, record.media_type)
    c.header('Content-Length', String(record.bytes))
    return c.body(body as Uint8Array<ArrayBuffer> | ReadableStream)
  }

  const sendPreview = async (c: Ctx, record: ImageRecord, receiver: Receiver) => {
    onSent(c)(outgoing.take(receiver, sharedLoad(`${record.id} preview`, PREVIEW.maxBytes)))
    const preview = await previews.of(record, PREVIEW, {
      // Whoever has links to pictures of one owner waits behind each other, and not before that owner.
      turn: 'link' in receiver ? `links ${record.owner}` : record.owner,
      maxWaiting: MAX_WAITING_PREVIEWS,
      signal: clientSignal(c),
    })
    describeBody(c, preview.media_type)
    return c.body(preview.bytes as Uint8Array<ArrayBuffer>)
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
    const submission = submissionOf(c)
    const notes = notesOn({ caller, ...submission })
    const describe = (job: Job) => ({ ...describeJob(job, links.relativeOrAbsolute), ...notes })
    if (!respondAsync && accepts(c, 'text/event-stream')) {
      const waiter = await jobs.submit(request, caller, submission)
      return streamJob(c, { watch: waiter.watch, describe, waiter })
    }
    // A caller that asks for the handle alone does not wait: its job goes on even when the connection is lost.
    const wait = respondAsync ? { budgetMs: 0 } : { budgetMs: waitMs, signal: clientSignal(c) }
    const job = await generate({ jobs, request, caller, submission, ...wait })
    if (respondAsync) {
      c.header('Preference-Applied', 'respond-async')
      return sendHandle(c, describe(job))
    }
    throwIfFailed(job)
    if (!hasEnded(job)) return sendHandle(c, describe(job))
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
    const record = await images.head(id)
    if (!record || (!linked && record.owner !== c.var.caller.id)) throw noSuchPicture()
    const tag = etagOf(record, variant)
    c.header('ETag', tag)
    if (isKnown(c.req.header('if-none-match'), tag)) return c.body(null, 304)
    if (c.req.method === 'HEAD') return describeOnly(c, record, variant)
    const receiver = linked ? { link: id } : { caller: c.var.caller }
    return await (variant === 'full' ? sendFull : sendPreview)(c, record, receiver)
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

const deletedMeanwhile = () =>
  new AppError('not_found', 'The picture was deleted before it could be sent; generate it again.')

/** Pictures are private, may be kept by the browser only, and are never interpreted as anything else. */
function describeBody(c: Ctx, mediaType: string): void {
  c.header('Content-Type', mediaType)
  c.header('Cache-Control', 'private, max-age=300')
  c.header('Referrer-Policy', 'no-referrer')
}

/** The answer to HEAD. How long a preview is shows only when it is made. */
function describeOnly(c: Ctx, { media_type, bytes }: ImageRecord, variant: Variant) {
  describeBody(c, variant === 'full' ? media_type : 'image/webp')
  if (variant === 'full') c.header('Content-Length', String(bytes))
  return c.body(null)
}

/** A stored picture never changes. Another one can only have its id after it has expired. */
function etagOf({ created_at }: ImageRecord, variant: Variant): string {
  return `"${variant}-${Date.parse(created_at).toString(36)}"`
}

/** Whether a client has what the tag names (RFC 9110, section 13.1.2). */
function isKnown(ifNoneMatch: string | undefined, tag: string): boolean {
  const known = (ifNoneMatch ?? '').split(',').map((each) => each.trim().replace(/^W\//, ''))
  return known.includes(tag) || known.includes('*')
}
