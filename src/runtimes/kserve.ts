/**
 * Client of a diffusion runtime behind KServe's v1 protocol: `POST /v1/models/{model}:predict` with
 * `{"instances": [...]}` (https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol).
 * Runtimes that know event streams report their progress in one; all others answer in plain JSON.
 */
import { z } from 'zod'
import { AppError, plainText, quote, textForLog } from '../errors.ts'
import {
  type Answer,
  contentLength,
  createEndpoint,
  type Endpoint,
  type EndpointLimits,
  mediaType,
  refused,
  runtimeFailed,
  runtimeUnavailable,
  wrongAnswer,
} from './endpoint.ts'
import { createEventStreamReader } from './event-stream.ts'
import { createPictureReader, type PictureAnswer, readPictureAnswer } from './picture-reader.ts'
import { answered, checkSize, wrongDocument, wrongPicture } from './plausible.ts'
import type { GenerationRequest } from './request.ts'
import type { GeneratedImage, Runtime, StepProgress } from './runtime.ts'

export interface KServeRuntimeOptions extends EndpointLimits {
  /** The runtime's base URL, before `/v1/models`. */
  readonly url: string
  /** See EndpointOptions. */
  readonly host?: string
  /** The model's name in that URL. */
  readonly model: string
}

const predictions = z.object({
  predictions: z.tuple(
    [
      z.object({
        model_name: z.string('model_name must be text').nullish(),
        seed: answered.seed.nullish(),
        num_inference_steps: answered.steps.nullish(),
        inference_ms: answered.inferenceMs.nullish(),
      }),
    ],
    z.unknown(),
  ),
})
/** The key of the picture in a prediction's `image`. */
const KEY = 'b64'
const progressEvent = z.object({ step: answered.steps, steps: answered.steps })
/** A progress or error event has a few hundred bytes. */
const EVENT_MAX_BYTES = 64 * 1024
const errorEvent = z.object({ error: z.string(), code: z.string().optional() })

/**
 * A runtime behind KServe's v1 protocol. Limits: 5 s to connect, 60 s of silence within an event stream, 64 MiB per
 * answer, 3 s for `check`. Generation itself has no time limit: to abort the signal closes the connection, and that
 * stops the runtime.
 */
export function createKServeRuntime({ url, host, model, ...limits }: KServeRuntimeOptions): Runtime {
  const path = `/v1/models/${encodeURIComponent(model)}`
  const endpoint = createEndpoint({
    ...limits,
    url,
    host,
    notFound: `The diffusion runtime has no model named ${quote(model)}. Set the target's model (DIFFUSERS_MODEL_ID, or "model" in RUNTIMES) to the name that the runtime serves.`,
  })

  return {
    async generate(request, { signal, onProgress, requestId }) {
      signal.throwIfAborted()
      const answer = await endpoint.send({
        path: `${path}:predict`,
        body: { instances: [request] },
        accept: 'text/event-stream, application/json;q=0.9',
        requestId,
        signal,
      })
      const read = await predictionIn(answer, { endpoint, signal, onProgress })
      return imageFrom(read, { request, model })
    },

    async check({ signal }) {
      const status = z.object({ ready: z.literal(true) }).safeParse(await endpoint.probe({ path, signal }))
      if (!status.success) throw runtimeUnavailable(status.error)
    },

    close: () => endpoint.close(),
  }
}

interface PredictionsOptions {
  readonly endpoint: Endpoint
  readonly signal: AbortSignal
  readonly onProgress: ((progress: StepProgress) => void) | undefined
}

/** Reads `{"predictions": [...]}` from a stream or plain JSON. The returned function throws an Error without a PNG. */
async function predictionIn(answer: Answer, options: PredictionsOptions): Promise<() => PictureAnswer> {
  if (mediaType(answer) === 'text/event-stream') {
    const result = await resultOf(answer, options)
    return () => readPictureAnswer(result, KEY)
  }
  const reader = createPictureReader({ key: KEY, bytes: contentLength(answer) })
  await options.endpoint.readJson(answer, { ...options, onChunk: reader.feed })
  return reader.end
}

async function resultOf(
  answer: Answer,
  { endpoint, signal, onProgress }: PredictionsOptions,
): Promise<readonly Buffer[]> {
  let result: readonly Buffer[] | undefined
  const reader = createEventStreamReader({
    onEvent({ event, data }) {
      if (result) return
      if (event === 'result') result = data
      else if (event === 'error') throw errorFrom(data)
      else if (event === 'progress' && onProgress) {
        const { step, steps } = parse(progressEvent, data)
        onProgress({ step, steps })
      }
    },
  })
  const feed = (chunk: Buffer) => {
    try {
      reader.feed(chunk)
    } catch (error) {
      throw error instanceof AppError ? error : wrongAnswer((error as Error).message)
    }
  }
  await endpoint.read(answer, {
    signal,
    idleTimeoutMs: endpoint.idleTimeoutMs,
    onChunk: (chunk) => {
      feed(chunk)
      return result !== undefined
    },
  })
  if (!result) throw wrongAnswer('the event stream ended without a result', undefined, 'lost')
  return result
}

/** The runtime uses this server's own error codes, as far as it can know them. */
function errorFrom(data: readonly Buffer[]): AppError {
  const { error, code } = parse(errorEvent, data)
  if (code === 'invalid_request') return refused(error)
  if (code === 'runtime_unavailable' || code === 'overloaded') return runtimeUnavailable(textForLog(error))
  return runtimeFailed(`error event ${quote(code)}: ${textForLog(error)}`)
}

function parse<Schema extends z.ZodType>(schema: Schema, data: readonly Buffer[]): z.output<Schema> {
  if (data.reduce((sum, { length }) => sum + length, 0) > EVENT_MAX_BYTES)
    throw wrongAnswer(`an event has more than ${EVENT_MAX_BYTES} bytes`)
  try {
    return schema.parse(JSON.parse(Buffer.concat(data).toString('utf8')))
  } catch (error) {
    throw wrongDocument(error, 'an event is not as it should be')
  }
}

function imageFrom(
  read: () => PictureAnswer,
  { request, model }: { request: GenerationRequest; model: string },
): GeneratedImage {
  let picture: PictureAnswer
  let first: z.output<typeof predictions>['predictions'][0]
  try {
    picture = read()
  } catch (error) {
    throw wrongPicture(error)
  }
  try {
    first = predictions.parse(picture.document).predictions[0]
  } catch (error) {
    throw wrongDocument(error)
  }
  checkSize(picture, request)
  return {
    png: picture.png,
    headroom: picture.headroom,
    width: picture.width,
    height: picture.height,
    seed: first.seed ?? request.seed,
    model: plainText(first.model_name ?? '', 200) || model,
    steps: first.num_inference_steps ?? undefined,
    inferenceMs: first.inference_ms ?? undefined,
  }
}
