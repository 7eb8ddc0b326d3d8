/** One run of a job: the runtime makes the picture, provenance goes in, the store keeps it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { toAppError } from '../errors.ts'
import type { ImageRecord, ImageStore } from '../images/image.ts'
import { addProvenance } from '../images/provenance.ts'
import type { Runtime, StepProgress } from '../runtimes/runtime.ts'
import type { Target } from '../runtimes/targets.ts'
import type { Job } from './job.ts'

/** How long a run waits for a store that takes no pictures, and between two looks; in milliseconds. */
const STORE_PATIENCE_MS = 10_000
const STORE_LOOK_MS = 250

export interface MakePictureOptions {
  readonly job: Pick<Job, 'id' | 'imageId' | 'owner' | 'request'>
  readonly target: Pick<Target, 'name'>
  readonly runtime: Pick<Runtime, 'generate'>
  readonly images: ImageStore
  readonly ttlSeconds: number
  readonly signal: AbortSignal
  readonly onProgress: (progress: StepProgress) => void
  readonly requestId?: string
}

/**
 * Generates and stores a job's picture; the stored record is returned (first writer wins).
 * @throws AppError of the runtime or the store; the signal's reason once it aborts.
 */
export async function makePicture(options: MakePictureOptions): Promise<ImageRecord> {
  const { job, target, runtime, images, ttlSeconds, signal, onProgress, requestId } = options
  const { request } = job
  await untilStorable(images, signal)
  const generated = await runtime.generate(request, { signal, onProgress, requestId })
  signal.throwIfAborted()
  const now = Date.now()
  const steps = generated.steps ?? request.num_inference_steps
  const record = {
    id: job.imageId,
    job_id: job.id,
    owner: job.owner,
    media_type: 'image/png',
    bytes: 0,
    width: generated.width,
    height: generated.height,
    prompt: request.prompt,
    ...(request.negative_prompt === undefined ? {} : { negative_prompt: request.negative_prompt }),
    seed: generated.seed,
    ...(steps === undefined ? {} : { num_inference_steps: steps }),
    ...(request.guidance_scale === undefined ? {} : { guidance_scale: request.guidance_scale }),
    model: generated.model,
    target: target.name,
    ...(generated.inferenceMs === undefined ? {} : { inference_ms: generated.inferenceMs }),
    created_at: new Date(now).toISOString(),
    expires_at: new Date(now + ttlSeconds * 1000).toISOString(),
  } satisfies ImageRecord
  const png = addProvenance(generated.png, record, generated)
  try {
    return await images.put({ record: { ...record, bytes: png.byteLength }, png })
  } catch (error) {
    throw toAppError(error)
  }
}

/** A picture is not drawn while the store cannot take it: waits a little, then fails with the store's reason. */
async function untilStorable(images: ImageStore, signal: AbortSignal): Promise<void> {
  for (const until = performance.now() + STORE_PATIENCE_MS; ; ) {
    const trouble = images.trouble?.()
    if (!trouble) return
    if (performance.now() > until) throw trouble
    await sleep(STORE_LOOK_MS)
    signal.throwIfAborted()
  }
}
