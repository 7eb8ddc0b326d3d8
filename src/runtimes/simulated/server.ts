/**
 * The simulated runtime behind the protocol of the real one: KServe's v1 predict, plain or as an event stream, and
 * the health routes of v1 and v2.
 */
import { randomInt } from 'node:crypto'
import { type Context, Hono } from 'hono'
import { streamSSE } from 'hono/streaming'
import { z } from 'zod'
import { AppError, toAppError } from '../../errors.ts'
import { imageRequest, SEED_RANGE } from '../request.ts'
import type { GeneratedImage, StepProgress } from '../runtime.ts'
import { type SimulatedFaults, simulatedFaults } from './faults.ts'
import { createSimulatedRuntime, SIMULATED_MODEL, type SimulatedOptions } from './simulated.ts'

const MAX_INSTANCES = 8
const KEEP_ALIVE_MS = 10_000

const predictRequest = z.strictObject({
  instances: z
    .array(imageRequest.omit({ model: true }))
    .min(1)
    .max(MAX_INSTANCES),
})
type Instance = z.output<typeof predictRequest>['instances'][number]

/** What the runtime has done since it started. Tests see here that a cancel arrived. */
export interface SimulatedStats {
  started: number
  finished: number
  failed: number
  aborted: number
  running: number
  /** The most generations that ran at once. */
  peak: number
  steps: number
}

/**
 * The routes of a simulated runtime that serves one model under this name. With `faultsByRequest` there is one that no
 * other runtime has: `PUT /faults` takes what goes wrong from now on (`simulatedFaults`), and `{}` ends it.
 */
export function createSimulatedServer(
  options: SimulatedOptions & { readonly modelName: string; readonly faultsByRequest?: boolean },
): Hono {
  const { modelName, faultsByRequest = false, ...behaviour } = options
  let faults: SimulatedFaults = {}
  const runtime = createSimulatedRuntime(behaviour, () => faults)
  const stats: SimulatedStats = {
    started: 0,
    finished: 0,
    failed: 0,
    aborted: 0,
    running: 0,
    peak: 0,
    steps: 0,
  }
  const model = { name: modelName, ready: true }

  /** Makes all instances, one after the other, as the real runtime does. */
  async function predict(
    instances: readonly Instance[],
    {
      signal,
      onProgress,
    }: { signal: AbortSignal; onProgress?: (instance: number, progress: StepProgress) => void },
  ) {
    stats.started += 1
    stats.running += 1
    stats.peak = Math.max(stats.peak, stats.running)
    try {
      const predictions = []
      for (const [index, instance] of instances.entries()) {
        const request = { seed: randomInt(SEED_RANGE), ...instance }
        const image = await runtime.generate(request, {
          signal,
          onProgress(progress) {
            stats.steps += 1
            onProgress?.(index, progress)
          },
        })
        predictions.push(predictionOf(instance, image))
      }
      stats.finished += 1
      return { predictions }
    } catch (error) {
      stats[signal.aborted ? 'aborted' : 'failed'] += 1
      throw error
    } finally {
      stats.running -= 1
    }
  }

  const app = new Hono()
  if (faultsByRequest) {
    app.put('/faults', async (c) => {
      const parsed = simulatedFaults.safeParse(await c.req.json().catch(() => undefined))
      if (!parsed.success) return c.json({ error: z.prettifyError(parsed.error) }, 400)
      faults = parsed.data
      return c.json(faults)
    })
    // Counts are the test's own look past the fault.
    app.use(async (c, next) => {
      if (faults.silent && c.req.path !== '/stats') await new Promise<never>(() => {})
      await next()
    })
  }
  app
    .get('/health', (c) => c.json({ status: 'ok' }))
    .get('/stats', (c) => c.json(stats))
    .get('/v1/models', (c) => c.json({ models: [modelName] }))
    .get('/v2/health/live', (c) => c.json({ live: true }))
    .get('/v2/health/ready', (c) => c.json({ ready: true }))
    .get('/v1/models/:model', (c) => (c.req.param('model') === modelName ? c.json(model) : unknownModel(c)))

  app.post('/v1/models/:action', async (c) => {
    if (c.req.param('action') !== `${modelName}:predict`) return unknownModel(c)
    const body = await c.req.json().catch(() => undefined)
    const parsed = predictRequest.safeParse(body)
    if (!parsed.success) {
      const [issue] = parsed.error.issues
      return c.json({ error: `${issue?.path.join('.') || 'body'}: ${issue?.message}` }, 400)
    }
    const { instances } = parsed.data
    // A refusal is a plain answer, also for a caller who asked for a stream.
    if (faults.refuse) {
      c.header('Retry-After', String(faults.refuse.retryAfterSeconds))
      return c.json({ error: 'It refuses, as it was told to (faults).' }, faults.refuse.status)
    }
    if (runtime.isFull())
      throw new AppError('runtime_unavailable', 'The runtime is full.', { retryAfterSeconds: 1 })
    const gone = new AbortController()
    c.req.raw.signal.addEventListener('abort', () =>
      gone.abort(new AppError('cancelled', 'The caller left.')),
    )
    if (!c.req.header('accept')?.includes('text/event-stream'))
      return c.json(await predict(instances, { signal: gone.signal }))
    return streamSSE(c, async (events) => {
      events.onAbort(() => gone.abort(new AppError('cancelled', 'The caller left.')))
      const send = (event: string, data: unknown) => events.writeSSE({ event, data: JSON.stringify(data) })
      const keepAlive = setInterval(() => void events.write(': keep-alive\n\n'), KEEP_ALIVE_MS)
      try {
        const onProgress = (instance: number, progress: StepProgress) =>
          void send('progress', { instance, ...progress })
        await send('result', await predict(instances, { signal: gone.signal, onProgress }))
      } catch (error) {
        const { code, message } = toAppError(error)
        await send('error', { error: message, code })
      } finally {
        clearInterval(keepAlive)
      }
    })
  })

  app.onError((thrown, c) => {
    const error = toAppError(thrown)
    if (error.retryAfterSeconds !== undefined) c.header('Retry-After', String(error.retryAfterSeconds))
    return c.json({ error: error.message }, error.code === 'runtime_unavailable' ? 503 : 500)
  })

  return app
}

const unknownModel = (c: Context) =>
  c.json({ error: 'There is no such model here; GET /v1/models lists them.' }, 404)

function predictionOf(instance: Instance, image: GeneratedImage) {
  const { png, seed, steps, inferenceMs } = image
  return {
    model_name: SIMULATED_MODEL,
    prompt: instance.prompt,
    image: { format: 'PNG', b64: Buffer.from(png.buffer, png.byteOffset, png.byteLength).toString('base64') },
    seed,
    num_inference_steps: steps,
    inference_ms: inferenceMs,
  }
}
