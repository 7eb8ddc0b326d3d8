/** Targets: named runtime endpoints, as configuration defines them and as the rest of the server uses them. */
import { z } from 'zod'
import { createEmbeddedRuntime, embeddedOptions } from './embedded.ts'
import { createKServeRuntime } from './kserve.ts'
import { createOpenAIRuntime } from './openai.ts'
import { createPlainPool, type Pool } from './pool/pool.ts'
import { targetDefaults } from './request.ts'
import type { Runtime } from './runtime.ts'
import { createSimulatedRuntime, simulatedOptions } from './simulated/simulated.ts'

const common = {
  name: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/, 'must be 1-63 of a-z, 0-9, "-" and "."')
    .describe('What callers write in `model`.'),
  concurrency: z
    .int()
    .min(1)
    .max(1000)
    .default(1)
    .describe('Generations at once: replicas x slots per replica.'),
  queue: z.int().min(0).max(100_000).default(16).describe('Generations that may wait.'),
  queuePerCaller: z
    .int()
    .min(1)
    .max(100_000)
    .optional()
    .describe('Generations of one caller that may wait; default: half of the queue.'),
  defaults: targetDefaults.default({}),
}
const url = z.url({ protocol: /^https?$/, error: 'must be an http:// or https:// URL' })

/** One entry of `RUNTIMES`. */
export const targetDefinition = z.discriminatedUnion('kind', [
  z.strictObject({
    ...common,
    kind: z.literal('kserve'),
    url,
    model: z.string().min(1).max(200).default('model').describe("The model's name in the runtime's URL."),
  }),
  z.strictObject({
    ...common,
    kind: z.literal('openai'),
    url,
    model: z.string().min(1).max(200),
    apiKey: z.string().min(1).optional().describe('Sent as a bearer token; keep RUNTIMES_FILE secret then.'),
  }),
  z.strictObject({ ...common, kind: z.literal('embedded'), options: embeddedOptions.prefault({}) }),
  z.strictObject({ ...common, kind: z.literal('simulated'), options: simulatedOptions.prefault({}) }),
])

export type TargetDefinition = z.output<typeof targetDefinition>

/** A target ready for use. */
export interface Target {
  readonly name: string
  readonly kind: TargetDefinition['kind']
  readonly concurrency: number
  readonly queue: number
  /** Of one caller, where callers can be told apart. */
  readonly queuePerCaller: number
  readonly defaults: z.output<typeof targetDefaults>
  readonly pool: Pool
}

/** The targets of a server; the first one is the default. */
export function createTargets(definitions: readonly TargetDefinition[]): readonly Target[] {
  return definitions.map((definition) => {
    const { name, kind, concurrency, queue, defaults } = definition
    const queuePerCaller = definition.queuePerCaller ?? Math.ceil(queue / 2)
    const pool = createPlainPool(createRuntime(definition), { slots: concurrency })
    return { name, kind, concurrency, queue, queuePerCaller, defaults, pool }
  })
}

function createRuntime(definition: TargetDefinition): Runtime {
  switch (definition.kind) {
    case 'kserve':
      return createKServeRuntime({ url: definition.url, model: definition.model })
    case 'openai':
      return createOpenAIRuntime({
        url: definition.url,
        model: definition.model,
        apiKey: definition.apiKey,
      })
    case 'embedded':
      return createEmbeddedRuntime(definition.options)
    case 'simulated':
      return createSimulatedRuntime(definition.options)
  }
}
