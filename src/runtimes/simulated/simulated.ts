/**
 * A runtime without a model: it makes a placeholder that says it is simulated, and takes as long as it is told. The same
 * request gives the same bytes on every engine. It can fail, stall and be full on demand, for tests and load tests.
 */
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { AppError } from '../../errors.ts'
import { encodePng } from '../../png.ts'
import { createSlots } from '../../slots.ts'
import type { Runtime } from '../runtime.ts'
import type { SimulatedFaults } from './faults.ts'
import { paintPlaceholder } from './placeholder.ts'

const DEFAULT_SIDE = 512
const DEFAULT_STEPS = 20
const DESCRIPTION = 'Simulated: a placeholder that no model made and that does not show what the prompt says.'
/** Twelve days. */
const FOREVER_MS = 2 ** 30
/** The model's name in every answer. */
export const SIMULATED_MODEL = 'simulated'

/** How a simulated runtime behaves. */
export const simulatedOptions = z.strictObject({
  msPerStep: z.number().min(0).max(60_000).default(20).describe('Milliseconds that a step takes.'),
  failEvery: z.int().min(1).optional().describe('Every n-th generation fails half-way.'),
  stallEvery: z.int().min(1).optional().describe('Every n-th generation never ends by itself.'),
  imageBytes: z
    .int()
    .min(0)
    .max(32 * 2 ** 20)
    .default(0)
    .describe('Pictures are padded to at least so many bytes.'),
  concurrency: z.int().min(1).optional().describe('Generations at once; more wait. Absent: no limit.'),
  queue: z.int().min(0).default(8).describe('Generations that may wait where concurrency is limited.'),
})

export type SimulatedOptions = z.output<typeof simulatedOptions>

export interface SimulatedRuntime extends Runtime {
  /** True while another generation would be refused, because every slot is taken and the queue is full. */
  isFull(): boolean
}

/** A simulated runtime. It is always ready. `faults` tells what goes wrong at present; absent: nothing does. */
export function createSimulatedRuntime(
  options: SimulatedOptions,
  faults: () => SimulatedFaults = () => ({}),
): SimulatedRuntime {
  const { failEvery, stallEvery, imageBytes, queue } = options
  const slots = createSlots(options.concurrency ?? Number.POSITIVE_INFINITY)
  const isFull = () => slots.free === 0 && slots.waiting >= queue
  let calls = 0

  return {
    description: DESCRIPTION,
    async generate(request, { signal, onProgress }) {
      signal.throwIfAborted()
      calls += 1
      const call = calls
      const width = request.width ?? DEFAULT_SIDE
      const height = request.height ?? DEFAULT_SIDE
      const steps = request.num_inference_steps ?? DEFAULT_STEPS
      if (isFull())
        throw new AppError(
          'runtime_unavailable',
          'The simulated runtime is full. Please try again in a second.',
          { retryAfterSeconds: 1 },
        )
      const hangAfter = async (step: number) => {
        const { hangAfterStep } = faults()
        if (hangAfterStep !== undefined && step >= hangAfterStep) await pause(FOREVER_MS, signal)
      }
      const release = await slots.take(signal)
      try {
        const startedAt = performance.now()
        const { msPerStep = options.msPerStep } = faults()
        await hangAfter(0)
        for (let step = 1; step <= steps; step += 1) {
          // By the clock, so that the time of a generation is exact however late each timer fires.
          await pause(Math.max(0, startedAt + step * msPerStep - performance.now()), signal)
          onProgress?.({ step, steps })
          await hangAfter(step)
          if (step < steps / 2) continue
          if (failEvery && call % failEvery === 0)
            throw new AppError(
              'runtime_failed',
              'The simulated runtime failed, as it was told to (failEvery).',
            )
          if (stallEvery && call % stallEvery === 0) await pause(FOREVER_MS, signal)
        }
        const { prompt, seed } = request
        const png = await encodePng({
          width,
          height,
          pixels: await paintPlaceholder({ prompt, seed, width, height }),
          channels: 3,
          padding: imageBytes > 0 ? noise(imageBytes, seed) : undefined,
        })
        const inferenceMs = Math.round(performance.now() - startedAt)
        return { png, width, height, seed, model: SIMULATED_MODEL, steps, inferenceMs }
      } finally {
        release()
      }
    },
    isFull,
    async check() {},
    async close() {},
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(Math.max(0, ms), undefined, { signal }).catch(() => {})
  signal.throwIfAborted()
}

/** Bytes that differ from seed to seed, so that no two pictures are the same. */
function noise(bytes: number, seed: number): Uint8Array {
  const block = createHash('shake256', { outputLength: 2 ** 16 })
    .update(String(seed))
    .digest()
  return Buffer.alloc(bytes, block)
}
