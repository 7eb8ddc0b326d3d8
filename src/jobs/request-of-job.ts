/** From what a caller asked for to what a job is: the same for every backend. */
import { randomUUID } from 'node:crypto'
import { AppError, quote } from '../errors.ts'
import { sha256 } from '../hash.ts'
import type { GenerationRequest, ImageRequest } from '../runtimes/request.ts'
import type { Target } from '../runtimes/targets.ts'
import type { Work } from './estimate.ts'

/** A request with the target's defaults; its seed is still open where none was asked for. */
export type Wanted = Omit<GenerationRequest, 'seed'> & { readonly seed?: number }

/** The target that a request names, or the default one. @throws AppError `invalid_request` that lists the names. */
export function chooseTarget(targets: readonly Target[], model: string | undefined): Target {
  const target = model === undefined ? targets[0] : targets.find(({ name }) => name === model)
  if (target) return target
  throw new AppError(
    'invalid_request',
    `model: ${quote(model)} is not a model of this server; write one of ${targets.map(({ name }) => quote(name)).join(', ')} or leave it out.`,
  )
}

/** What was asked for, with the target's defaults where nothing was asked; what was asked wins. */
export function withDefaults(asked: ImageRequest, target: Target): Wanted {
  const { model: _, ...request } = asked
  const given = Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined))
  return { ...target.defaults, ...given } as Wanted
}

/** Equal requests have equal texts, in whichever order their fields came. */
export function canonical(request: object): string {
  return JSON.stringify(Object.entries(request).sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** A new id. `randomUUID` returns a rope of pieces, which takes 480 bytes as long as the job is kept; this takes 70. */
export function newId(): string {
  return Buffer.from(randomUUID(), 'latin1').toString('latin1')
}

/** A name of fixed length for any text; parts cannot run into each other. */
export function hashOf(...parts: readonly string[]): string {
  return sha256(JSON.stringify(parts), 'base64url')
}

/** What decides how long a generation takes. */
export function sizesOf({ width, height, num_inference_steps }: Work): Work {
  return { width, height, num_inference_steps }
}
