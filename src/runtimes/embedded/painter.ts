/** Draws with a model's networks in ONNX Runtime's WebAssembly build, whose arithmetic is the same everywhere. */
import { readFile } from 'node:fs/promises'
import { setFlagsFromString } from 'node:v8'
import type { InferenceSession, Tensor } from 'onnxruntime-web/wasm'
import { encodePng } from '../../png.ts'
import type { GenerationRequest } from '../request.ts'
import type { Drawn } from './messages.ts'
import type { ModelFiles } from './model.ts'
import { sample, seededNoise } from './sampler.ts'
import { createTokenizer } from './tokenizer.ts'
import { upscale } from './upscale.ts'
import { findWasm } from './wasm.ts'

type OnnxRuntime = typeof import('onnxruntime-web/wasm')

/** Pixels of a side where the request names none. */
const DEFAULT_SIDE = 512

/** ONNX Runtime, on one thread, without using the network. @throws Error when it is not installed. */
export async function loadOnnxRuntime(): Promise<OnnxRuntime> {
  // It looks for its files at `location.origin`, which in Deno's threads is the text "null".
  if (globalThis.location?.origin === 'null')
    Object.defineProperty(globalThis, 'location', { value: undefined })
  // V8's optimizing compiler would make a picture a quarter faster, and the server 170 MB larger. Deno sets flags at
  // its start alone (`start:deno` in package.json, DENO_V8_FLAGS in the Dockerfile).
  setFlagsFromString('--no-wasm-tier-up')
  setFlagsFromString('--no-wasm-dynamic-tiering')
  const runtime = await import('onnxruntime-web/wasm')
  runtime.env.wasm.numThreads = 1
  runtime.env.wasm.wasmBinary = await readFile(await findWasm())
  return runtime
}

export interface Painter {
  /** `onStep` is called after each step; throwing there ends the drawing. */
  draw(request: GenerationRequest, options: { onStep: (step: number, steps: number) => void }): Promise<Drawn>
}

export async function createPainter(onnx: OnnxRuntime, files: ModelFiles): Promise<Painter> {
  const { about } = files
  const tokenize = createTokenizer(files.vocabulary, about)
  const load = (model: Uint8Array) =>
    onnx.InferenceSession.create(model, { executionProviders: ['wasm'], graphOptimizationLevel: 'basic' })
  // One after the other: the runtime compiles itself with the first.
  const textEncoder = await load(files.textEncoder)
  const denoiser = await load(files.denoiser)
  const decoder = await load(files.decoder)
  const tensor = (data: Float32Array, dims: readonly number[]) => new onnx.Tensor('float32', data, dims)

  async function run(session: InferenceSession, feeds: Record<string, Tensor>): Promise<Tensor> {
    const results = await session.run(feeds)
    return results[session.outputNames[0] as string] as Tensor
  }

  return {
    async draw(request, { onStep }) {
      const startedAt = performance.now()
      const steps = request.num_inference_steps ?? about.steps
      const guidance = request.guidance_scale ?? about.guidance
      const { width = DEFAULT_SIDE, height = DEFAULT_SIDE } = request
      const guided = guidance > 1
      const texts = guided ? [request.negative_prompt ?? '', request.prompt] : [request.prompt]
      const rows = texts.length
      const tokens = BigInt64Array.from(texts.flatMap(tokenize), BigInt)
      const words = await run(textEncoder, {
        tokens: new onnx.Tensor('int64', tokens, [rows, about.positions]),
      })
      const shape = [about.channels, about.latentSide, about.latentSide]
      const length = about.channels * about.latentSide ** 2

      const latents = await sample({
        alphasCumulative: about.alphasCumulative,
        steps,
        noise: seededNoise(request.seed, length),
        async predict(noisy, time) {
          const batch = new Float32Array(rows * length)
          for (let row = 0; row < rows; row += 1) batch.set(noisy, row * length)
          const velocity = await run(denoiser, {
            latents: tensor(batch, [rows, ...shape]),
            time: tensor(new Float32Array(rows).fill(time), [rows]),
            words,
          })
          const guess = velocity.data as Float32Array
          if (!guided) return guess
          return guess
            .slice(0, length)
            .map((without, i) => without + guidance * (guess[length + i]! - without))
        },
        async onStep(step) {
          // A turn of the event loop, so that a cancellation can arrive.
          await new Promise<void>((resolve) => setImmediate(resolve))
          onStep(step, steps)
        },
      })
      const picture = await run(decoder, { latents: tensor(latents, [1, ...shape]) })
      const planes = picture.data as Float32Array
      const pixels = upscale({ planes, side: about.side, width, height })
      const png = await encodePng({ width, height, pixels, channels: 3 })
      return {
        png,
        width,
        height,
        steps,
        model: about.name,
        inferenceMs: Math.round(performance.now() - startedAt),
      }
    },
  }
}
