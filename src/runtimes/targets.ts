/** Targets: named runtime endpoints, as configuration defines them and as the rest of the server uses them. */
import { isIP } from 'node:net'
import { z } from 'zod'
import type { Logger } from '../telemetry/log.ts'
import { createEmbeddedRuntime, embeddedOptions } from './embedded.ts'
import { createKServeRuntime } from './kserve.ts'
import { createOpenAIRuntime } from './openai.ts'
import { idOf } from './pool/discovery.ts'
import { createPlainPool, type Pool } from './pool/pool.ts'
import { createReplicaPool } from './pool/replicas.ts'
import { targetDefaults } from './request.ts'
import type { Runtime } from './runtime.ts'
import { createSimulatedRuntime, simulatedOptions } from './simulated/simulated.ts'

/** The most generations at once of a target. */
const MOST_AT_ONCE = 1000

/** What every kind of target has. */
const common = {
  name: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/, 'must be 1-63 of a-z, 0-9, "-" and "."')
    .describe('What callers write in `model`.'),
  queue: z.int().min(0).max(100_000).default(16).describe('Generations that may wait.'),
  queuePerCaller: z
    .int()
    .min(1)
    .max(100_000)
    .optional()
    .describe('Generations of one caller that may wait; default: half of the queue.'),
  defaults: targetDefaults.default({}),
}
const concurrency = z.int().min(1).max(MOST_AT_ONCE)
/** Of a target with one runtime, which is always there. */
const fixed = { concurrency: concurrency.default(1).describe('Generations at once.') }
const url = z.url({ protocol: /^https?$/, error: 'must be an http:// or https:// URL' })

/** Of a target whose runtime has an address: one, several, or a name behind which replicas come and go. */
const addresses = {
  concurrency: concurrency
    .optional()
    .describe(
      'Generations at once. One url: default 1. Else: the most of all replicas together; default: no cap.',
    ),
  url: url.optional(),
  urls: z.array(url).min(1).max(1000).optional().describe('One URL for each replica, in the place of `url`.'),
  discovery: z
    .literal('dns')
    .optional()
    .describe('Every address behind the name in `url` is a replica; resolved again every 5 s.'),
  slots: z.int().min(1).max(1000).optional().describe('Generations at once on each replica; default 1.'),
  scaleFromZero: z
    .boolean()
    .optional()
    .describe('True: without a ready replica generations wait. Else they are refused.'),
}
type Addresses = z.output<z.ZodObject<typeof addresses>>

/** What belongs together, and what does not. */
function checkAddresses(target: Addresses, context: z.RefinementCtx): void {
  const problem = (path: keyof Addresses, message: string) =>
    context.addIssue({ code: 'custom', path: [path], message, input: target[path] })
  const { url, urls, discovery } = target
  if (url === undefined && urls === undefined) problem('url', 'must be set, or urls')
  if (url !== undefined && urls !== undefined) problem('urls', 'contradicts url: remove one of the two')
  if (urls && discovery)
    problem('discovery', 'contradicts urls: it needs one url, whose name has many addresses')
  if (urls && new Set(urls.map(idOf)).size < urls.length) problem('urls', 'must name every replica once')
  if (url && discovery && isIP(new URL(url).hostname.replace(/^\[|\]$/g, '')))
    problem('discovery', 'needs a name in url, not an address')
  if (urls || discovery) return
  if (target.slots !== undefined) problem('slots', 'is for urls or discovery; with one url, set concurrency')
  if (target.scaleFromZero) problem('scaleFromZero', 'is for urls or discovery')
}

/** One entry of `RUNTIMES`. */
export const targetDefinition = z.discriminatedUnion('kind', [
  z
    .strictObject({
      ...common,
      ...addresses,
      kind: z.literal('kserve'),
      model: z.string().min(1).max(200).default('model').describe("The model's name in the runtime's URL."),
    })
    .superRefine(checkAddresses),
  z
    .strictObject({
      ...common,
      ...addresses,
      kind: z.literal('openai'),
      model: z.string().min(1).max(200),
      apiKey: z
        .string()
        .min(1)
        .optional()
        .describe('Sent as a bearer token; keep RUNTIMES_FILE secret then.'),
    })
    .superRefine(checkAddresses),
  z.strictObject({ ...common, ...fixed, kind: z.literal('embedded'), options: embeddedOptions.prefault({}) }),
  z.strictObject({
    ...common,
    ...fixed,
    kind: z.literal('simulated'),
    options: simulatedOptions.prefault({}),
  }),
])

export type TargetDefinition = z.output<typeof targetDefinition>

/** A target ready for use. */
export interface Target {
  readonly name: string
  readonly kind: TargetDefinition['kind']
  /** Most generations at once; where replicas come and go it may be fewer: see `pool`. */
  readonly concurrency: number
  readonly queue: number
  /** Of one caller, where callers can be told apart. */
  readonly queuePerCaller: number
  readonly defaults: z.output<typeof targetDefaults>
  readonly pool: Pool
}

/** The targets of a server; the first one is the default. Pools of replicas begin to look for them at once. */
export function createTargets(
  definitions: readonly TargetDefinition[],
  { log }: { log?: Logger } = {},
): readonly Target[] {
  return definitions.map((definition) => {
    const { name, kind, queue, defaults } = definition
    const pool = createPool(definition, log)
    const concurrency = definition.concurrency ?? (pool.changes ? MOST_AT_ONCE : 1)
    const queuePerCaller = definition.queuePerCaller ?? Math.ceil(queue / 2)
    return { name, kind, concurrency, queue, queuePerCaller, defaults, pool }
  })
}

function createPool(definition: TargetDefinition, log: Logger | undefined): Pool {
  const { name, concurrency } = definition
  switch (definition.kind) {
    case 'embedded':
      return createPlainPool(createEmbeddedRuntime(definition.options), { slots: concurrency ?? 1 })
    case 'simulated':
      return createPlainPool(createSimulatedRuntime(definition.options), { slots: concurrency ?? 1 })
    default: {
      const { url = '', urls, discovery, slots = 1, scaleFromZero = false } = definition
      const connect = (at: { url: string; host?: string }) => createClient(definition, at)
      if (!urls && !discovery) return createPlainPool(connect({ url }), { slots: concurrency ?? 1 })
      const found = urls ? { urls } : { url }
      return createReplicaPool({
        ...{ name, found, slots, cap: concurrency, scalesFromZero: scaleFromZero, connect, log },
      })
    }
  }
}

function createClient(
  definition: Extract<TargetDefinition, { kind: 'kserve' | 'openai' }>,
  at: { url: string; host?: string },
): Runtime {
  const { model } = definition
  return definition.kind === 'kserve'
    ? createKServeRuntime({ ...at, model })
    : createOpenAIRuntime({ ...at, model, apiKey: definition.apiKey })
}
