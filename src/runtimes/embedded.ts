/**
 * A runtime in the server itself: ONNX Runtime draws with a small diffusion model of our own in a worker thread. Its
 * pictures are 64x64, enlarged to the requested size. The same request gives the same bytes on every engine.
 */
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { z } from 'zod'
import { AppError } from '../errors.ts'
import type { FromWorker, ToWorker, WorkerOptions } from './embedded/messages.ts'
import { findModel } from './embedded/model.ts'
import { findWasm } from './embedded/wasm.ts'
import type { GeneratedImage, GenerateOptions, Runtime } from './runtime.ts'

/** Where the model's files lie unless the target says otherwise. */
const SHIPPED = fileURLToPath(new URL('../../model/weights', import.meta.url))

/** What the shipped model draws: docs/model-card.md in two sentences. */
const SHIPPED_DRAWS =
  'Draws one small icon (64x64, enlarged) of plain words: one of 626 things, in one of eleven colours, on a plain ' +
  'background, as "a red car", "a penguin" or "a yellow star on a blue background". ' +
  'No scenes, counting, text or styles; words that it never read become something in between.'

/** How an embedded target is set up. */
export const embeddedOptions = z.strictObject({
  folder: z
    .string()
    .min(1)
    .default(SHIPPED)
    .describe('Folder with the files that model/export.py wrote; default: the model that is shipped.'),
})

export type EmbeddedOptions = z.output<typeof embeddedOptions>

/** What the server can draw with instead. */
const WAY_OUT =
  'Without it: set DIFFUSERS_RUNTIME_URL to a diffusion runtime, or RUNTIMES to ' +
  '[{"name":"simulated","kind":"simulated"}] for pictures that no model made.'

/** A request for a picture that is not there yet. */
interface Waiting {
  readonly seed: number
  readonly onProgress: GenerateOptions['onProgress']
  readonly resolve: (image: GeneratedImage) => void
  readonly reject: (reason: unknown) => void
}

interface Thread {
  readonly worker: Worker
  /** Resolves when the model is loaded. */
  readonly ready: Promise<void>
}

/**
 * An embedded runtime. It loads the model at `warmUp`, else with the first picture, and again with the next one after
 * its thread broke. Until then a check only looks whether the model and its engine are there.
 */
export function createEmbeddedRuntime({ folder }: EmbeddedOptions): Runtime {
  const waiting = new Map<number, Waiting>()
  let lastId = 0
  let closed = false
  /** True once a thread broke: from then on a check has to load the model. */
  let broke = false
  let thread: Thread | undefined

  function start(): Thread {
    // Under dist/ the sources are JavaScript.
    const entry = new URL(
      `embedded/painter-thread.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`,
      import.meta.url,
    )
    const worker = new Worker(entry, { workerData: { folder } satisfies WorkerOptions })
    // It does not keep the process alive: the request that waits for a picture does.
    worker.unref()
    const ready = new Promise<void>((resolve, reject) => {
      worker.on('message', (message: FromWorker) => {
        if (message.kind === 'ready') resolve()
        else if (message.kind === 'unusable') reject(unusable(message, folder))
        else hear(message)
      })
      const ended = (cause: unknown) => {
        if (thread?.worker === worker) thread = undefined
        broke = true
        const error = new AppError('runtime_failed', 'The thread that draws ended.', { cause })
        reject(error)
        for (const { reject: give } of waiting.values()) give(error)
        waiting.clear()
      }
      worker.once('error', ended)
      worker.once('exit', (code) => ended(`exit code ${code}`))
    })
    // `load` reports it.
    ready.catch(() => {})
    return { worker, ready }
  }

  async function load(): Promise<Worker> {
    if (closed) throw new AppError('runtime_unavailable', 'The server is ending.')
    thread ??= start()
    const { worker, ready } = thread
    await ready
    return worker
  }

  function hear(message: Exclude<FromWorker, { kind: 'ready' | 'unusable' }>): void {
    const call = waiting.get(message.id)
    if (!call) return
    if (message.kind === 'step') {
      call.onProgress?.({ step: message.step, steps: message.steps })
      return
    }
    waiting.delete(message.id)
    if (message.kind === 'drawn') call.resolve({ ...message.picture, seed: call.seed })
    else call.reject(new AppError('runtime_failed', 'The embedded model failed.', { cause: message.reason }))
  }

  return {
    ...(folder === SHIPPED ? { description: SHIPPED_DRAWS } : {}),
    async generate(request, { signal, onProgress }) {
      signal.throwIfAborted()
      const worker = await load()
      signal.throwIfAborted()
      lastId += 1
      const id = lastId
      const tell = (message: ToWorker) => worker.postMessage(message)
      const cancel = () => {
        const call = waiting.get(id)
        waiting.delete(id)
        call?.reject(signal.reason)
        tell({ kind: 'cancel', id })
      }
      try {
        return await new Promise<GeneratedImage>((resolve, reject) => {
          waiting.set(id, { seed: request.seed, onProgress, resolve, reject })
          signal.addEventListener('abort', cancel, { once: true })
          tell({ kind: 'draw', id, request })
        })
      } finally {
        signal.removeEventListener('abort', cancel)
      }
    },
    async check() {
      if (thread || broke) await load()
      else await find(folder)
    },
    async warmUp() {
      await load().catch((error) => {
        if (!closed) throw error
      })
    },
    async close() {
      closed = true
      await thread?.worker.terminate()
    },
  }
}

/** @throws AppError `runtime_unavailable` when the model or its engine is missing. */
async function find(folder: string): Promise<void> {
  const miss = (missing: 'onnxruntime-web' | 'model') => (error: unknown) => {
    throw unusable({ kind: 'unusable', missing, reason: String(error) }, folder)
  }
  await findWasm().catch(miss('onnxruntime-web'))
  await findModel(folder).catch(miss('model'))
}

function unusable({ missing, reason }: Extract<FromWorker, { kind: 'unusable' }>, folder: string): AppError {
  const advice =
    missing === 'model'
      ? `The embedded model's files are missing or broken; model/README.md says how to make them (${
          folder === SHIPPED ? 'model/weights' : "the target's folder"
        }).`
      : 'The embedded model needs the optional package onnxruntime-web: type `npm install --include=optional`.'
  return new AppError('runtime_unavailable', `${advice} ${WAY_OUT}`, { cause: reason, retryAfterSeconds: 60 })
}
