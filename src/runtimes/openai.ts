/**
 * Client of a runtime behind OpenAI's image API, `POST /v1/images/generations`, as vLLM-Omni, SGLang diffusion and
 * LocalAI serve it: with `negative_prompt`, `num_inference_steps`, `guidance_scale` and `seed` besides OpenAI's own
 * fields. None of them reports steps.
 */
import { z } from 'zod'
import { AppError, quote } from '../errors.ts'
import { contentLength, createEndpoint, type EndpointLimits } from './endpoint.ts'
import { createPictureReader, type PictureAnswer, type PictureReader } from './picture-reader.ts'
import { answered, checkSize, wrongDocument, wrongPicture } from './plausible.ts'
import type { Runtime } from './runtime.ts'

export interface OpenAIRuntimeOptions extends EndpointLimits {
  /** The runtime's base URL, with or without the `/v1` that OpenAI's own clients want. */
  readonly url: string
  /** See EndpointOptions. */
  readonly host?: string
  readonly model: string
  /** Sent as a bearer token. */
  readonly apiKey?: string
}

/** SGLang says how long it took. */
const generation = z.object({
  data: z.array(z.unknown()).length(1, 'data must have one picture'),
  inference_time_s: answered.inferenceSeconds.nullish(),
})

/** A runtime behind OpenAI's image API; limits as `createKServeRuntime`. */
export function createOpenAIRuntime({ url, host, model, apiKey, ...limits }: OpenAIRuntimeOptions): Runtime {
  const endpoint = createEndpoint({
    ...limits,
    url: url.replace(/\/v1\/*$/, ''),
    host,
    apiKey,
    notFound: `The diffusion runtime knows no image generation for model ${quote(model)}. Check the target's url and model in RUNTIMES.`,
  })

  return {
    async generate(request, { signal, requestId }) {
      signal.throwIfAborted()
      const { width, height, ...parameters } = request
      if ((width === undefined) !== (height === undefined))
        throw new AppError(
          'invalid_request',
          'This model takes width and height together: give both or neither.',
        )
      const answer = await endpoint.send({
        path: '/v1/images/generations',
        body: {
          ...parameters,
          model,
          n: 1,
          response_format: 'b64_json',
          size: width === undefined ? undefined : `${width}x${height}`,
        },
        accept: 'application/json',
        requestId,
        signal,
      })
      const reader = createPictureReader({ key: 'b64_json', bytes: contentLength(answer) })
      await endpoint.readJson(answer, { signal, onChunk: reader.feed })
      const { document, ...picture } = pictureFrom(reader)
      const parsed = generation.safeParse(document)
      if (!parsed.success) throw wrongDocument(parsed.error)
      checkSize(picture, request)
      const { inference_time_s } = parsed.data
      return {
        ...picture,
        seed: request.seed,
        model,
        inferenceMs: inference_time_s == null ? undefined : Math.round(inference_time_s * 1000),
      }
    },

    async check({ signal }) {
      await endpoint.probe({ path: '/v1/models', signal })
    },

    close: () => endpoint.close(),
  }
}

function pictureFrom(reader: PictureReader): PictureAnswer {
  try {
    return reader.end()
  } catch (error) {
    throw wrongPicture(error)
  }
}
