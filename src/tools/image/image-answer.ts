/** The answer to a generation, finished or not: one flat shape for all transports, and a result for MCP hosts. */
import { z } from 'zod'
import { AppError } from '../../errors.ts'
import type { ImageRecord, ImageStore } from '../../images/image.ts'
import type { Links } from '../../images/links.ts'
import { inlineLoad, type Outgoing } from '../../images/outgoing.ts'
import type { Previews } from '../../images/previews.ts'
import { hasEnded, type Job } from '../../jobs/job.ts'
import type { ToolContext, ToolProgress, ToolResult } from '../tool.ts'

/** Previews for answers that may wait for one caller. Beyond that an answer has the link alone. */
const MAX_WAITING_PREVIEWS = 32

/** The answer for a picture as well as for a handle. Only `state` and `job_id` are always present. */
export const imageAnswer = z.object({
  state: z.enum(['queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired']),
  job_id: z.string().describe('The handle: get_image_job and cancel_image_job take it.'),
  image_id: z.string().optional().describe('Read the picture as the resource image://{image_id}.'),
  prompt: z.string().optional(),
  seed: z.int().optional(),
  width: z.int().optional().describe('Pixels.'),
  height: z.int().optional().describe('Pixels.'),
  steps: z.int().optional().describe('Denoising steps.'),
  step: z.int().optional().describe('Steps done, while running.'),
  position: z.int().optional().describe('Place in the queue, while queued: 1 is next.'),
  eta_ms: z
    .int()
    .optional()
    .describe(
      'Estimated time until the picture is ready, in milliseconds; absent while there is no estimate.',
    ),
  model: z.string().optional().describe('The model that made the picture.'),
  target: z.string().optional().describe("The target's name, as list_image_models gives it."),
  queued_ms: z.number().optional().describe('Time in the queue, in milliseconds.'),
  inference_ms: z.number().optional().describe('Time in the runtime, in milliseconds.'),
  url: z.string().optional().describe('A signed link to the picture that needs no token until expires_at.'),
  expires_at: z
    .string()
    .optional()
    .describe(
      'When the picture is deleted at the latest. Before that only later pictures of your own may take its place.',
    ),
  error: z
    .object({ code: z.string(), message: z.string(), retry_after_seconds: z.int().optional() })
    .optional()
    .describe('Why there is no picture.'),
  notes: z.array(z.string()).optional().describe('What was asked for without effect.'),
})

export type ImageAnswer = z.output<typeof imageAnswer>

/** A job in the flat shape. @param link makes the picture's link from its id and expiry. */
export function describeJob(
  job: Job,
  link: (image: { id: string; expiresAt: string }) => string | undefined,
): ImageAnswer {
  const { image, progress, request } = job
  const url = image && link({ id: image.id, expiresAt: image.expires_at })
  return {
    state: job.state,
    job_id: job.id,
    image_id: image?.id,
    prompt: image?.prompt,
    seed: image?.seed ?? request.seed,
    width: image?.width ?? request.width,
    height: image?.height ?? request.height,
    steps: image?.num_inference_steps ?? progress?.steps ?? request.num_inference_steps,
    step: image ? undefined : progress?.step,
    position: job.position,
    eta_ms: etaOf(job),
    model: image?.model,
    target: job.target,
    queued_ms: job.startedAt === undefined ? undefined : job.startedAt - job.createdAt,
    inference_ms: image?.inference_ms,
    url,
    expires_at: image?.expires_at,
    error: job.error,
  }
}

function etaOf({ state, expectedAt }: Job): number | undefined {
  if (expectedAt === undefined || (state !== 'queued' && state !== 'running')) return undefined
  return Math.max(0, Math.round(expectedAt - performance.now()))
}

/** The place in the queue or the step of an unfinished job, as text. */
export function stateInWords(job: Job): string {
  const { state, position, progress } = job
  if (state !== 'queued') return progress ? `Step ${progress.step} of ${progress.steps}` : 'Started'
  const eta = etaOf(job)
  return [
    job.starting ? 'The runtime is starting' : 'In the queue',
    ...(position === undefined ? [] : [`position ${position}`]),
    ...(eta === undefined ? [] : [`ready in about ${Math.ceil(eta / 1000)} s`]),
  ].join(', ')
}

/** Turns a job's snapshots into progress that only grows: from 0 to 1 before the first step, then the steps. */
export function createProgress(): (job: Job) => ToolProgress | undefined {
  let told = 0
  let last = ''
  return (job) => {
    const message = stateInWords(job)
    if (hasEnded(job) || message === last) return undefined
    last = message
    const step = job.state === 'running' ? job.progress?.step : undefined
    // Before the first step, each report covers half of the remaining way to 1.
    told = Math.max(told, step ?? (told + 1) / 2)
    return { progress: told, message, total: job.progress?.steps }
  }
}

/** Reports a job's snapshots as progress; undefined where the caller asked for none. */
export function progressReporter(onProgress: ToolContext['onProgress']): ((job: Job) => void) | undefined {
  if (!onProgress) return undefined
  const progressOf = createProgress()
  return (job) => {
    const progress = progressOf(job)
    if (progress) onProgress(progress)
  }
}

/** Throws the error of a job that ended without a picture. @throws AppError */
export function throwIfFailed(job: Job): void {
  if (!job.error) return
  const { code, message, retry_after_seconds } = job.error
  throw new AppError(code, message, { retryAfterSeconds: retry_after_seconds })
}

export interface AnswerParts {
  readonly images: ImageStore
  readonly links: Links
  readonly previews: Previews
  readonly outgoing: Outgoing
  /** Larger PNGs, in bytes, are shown as a preview. */
  readonly inlineMaxBytes: number
}

/** What an answer needs to know of its call. */
export type AnswerContext = Pick<ToolContext, 'caller' | 'signal' | 'onSent'>

/**
 * A finished job as an MCP result: the picture if it is small enough, else a WebP preview, and a link in both cases. The
 * picture is made, so the answer never fails because the caller asks for too much at once: a preview waits for its turn,
 * and beyond the bounds the answer has the link alone.
 * @throws AppError `not_found` when the picture has expired or was deleted.
 */
export async function pictureResult(
  job: Job,
  parts: AnswerParts,
  context: AnswerContext,
): Promise<ToolResult<ImageAnswer>> {
  const record = job.image
  const shown = record && (await show(record, parts, context))
  if (!shown)
    throw new AppError(
      'not_found',
      `The picture of job ${job.id} has expired; generate it again with seed ${job.request.seed}.`,
    )
  const structured = describeJob(job, parts.links.absolute)
  return {
    structured,
    content: [
      { type: 'text', text: pictureText(structured, shown.remark) },
      ...(shown.bytes
        ? [{ type: 'image' as const, data: base64(shown.bytes), mimeType: shown.media_type }]
        : []),
      {
        type: 'resource_link',
        uri: structured.url ?? `image://${record.id}`,
        name: `${record.id}.png`,
        title: record.prompt.slice(0, 80),
        mimeType: record.media_type,
        size: record.bytes,
      },
    ],
  }
}

/** What an answer shows of a picture, and what its text says about that. */
interface Shown {
  readonly remark: string
  /** Absent: there is only the link. */
  readonly bytes?: Uint8Array
  readonly media_type: string
}

const NOT_SHOWN = {
  too_large: ' Too large to be shown here.',
  rate_limited: ' Not shown here, because too many pictures are on their way to you.',
  overloaded: ' Not shown here, because the server sends as many pictures as it can.',
}

/** Undefined when the picture is gone. */
async function show(
  record: ImageRecord,
  parts: AnswerParts,
  { caller, signal, onSent }: AnswerContext,
): Promise<Shown | undefined> {
  const { images, previews, outgoing, inlineMaxBytes } = parts
  const { media_type } = record
  try {
    const release = outgoing.take({ caller }, inlineLoad(Math.min(record.bytes, inlineMaxBytes)))
    if (onSent) onSent(release)
    else release()
  } catch (error) {
    return { remark: remarkOn(error, ['rate_limited', 'overloaded']), media_type }
  }
  if (record.bytes <= inlineMaxBytes) {
    const stored = await images.get(record.id)
    return stored && { remark: '', bytes: stored.png, media_type }
  }
  if (!(await images.head(record.id))) return undefined
  try {
    const asker = { turn: record.owner, maxWaiting: MAX_WAITING_PREVIEWS, signal }
    const { bytes, media_type } = await previews.of(record, { maxBytes: inlineMaxBytes }, asker)
    return { remark: ' Shown as a smaller preview.', bytes, media_type }
  } catch (error) {
    return { remark: remarkOn(error, ['rate_limited', 'too_large']), media_type }
  }
}

/** Why there is only the link. @throws the error if it is none of these. */
function remarkOn(error: unknown, codes: (keyof typeof NOT_SHOWN)[]): string {
  const code = codes.find((each) => error instanceof AppError && error.code === each)
  if (!code) throw error
  return NOT_SHOWN[code]
}

export const base64 = ({ buffer, byteOffset, byteLength }: Uint8Array) =>
  Buffer.from(buffer, byteOffset, byteLength).toString('base64')

function pictureText(answer: ImageAnswer, remark: string): string {
  const size = `${answer.width}x${answer.height}`
  const steps = answer.steps === undefined ? '' : `, ${answer.steps} steps`
  const where = answer.url ? ` Full picture until ${answer.expires_at}: ${answer.url}` : ''
  return `Picture ${answer.image_id}: ${size}, seed ${answer.seed}${steps}, model ${answer.model}.${remark}${where}`
}

/**
 * The MCP result of a call that waited for a job: the picture, or a handle while the job goes on.
 * @throws AppError of a job that ended without a picture; `not_found` when the picture has expired or was deleted.
 */
export async function jobResult(
  job: Job,
  parts: AnswerParts,
  context: AnswerContext,
): Promise<ToolResult<ImageAnswer>> {
  throwIfFailed(job)
  return hasEnded(job) ? await pictureResult(job, parts, context) : handleResult(job, parts)
}

/** An unfinished job as an MCP result that says what to call next. */
export function handleResult(job: Job, parts: Pick<AnswerParts, 'links'>): ToolResult<ImageAnswer> {
  const text =
    `The picture is not ready yet. ${stateInWords(job)}. Call get_image_job with job_id "${job.id}" to wait for it; ` +
    'it keeps being made meanwhile. Do not call generate_image again for it.'
  return { structured: describeJob(job, parts.links.absolute), content: [{ type: 'text', text }] }
}
