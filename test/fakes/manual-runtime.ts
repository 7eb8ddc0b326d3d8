/**
 * A runtime whose every step the test decides. Source of its behaviour: the Runtime interface (generate reports
 * steps, obeys its signal, ends in a picture or an error); the real clients are held against the same interface
 * in src/runtimes and in the contract suite.
 */
import type { GenerationRequest } from '../../src/runtimes/request.ts'
import type { GeneratedImage, GenerateOptions, Runtime } from '../../src/runtimes/runtime.ts'

/** One generation that the runtime was asked for. */
export interface ManualRun {
  readonly request: GenerationRequest
  readonly requestId: string | undefined
  readonly signal: AbortSignal
  step(step: number, steps: number): void
  finish(): void
  fail(error: Error): void
}

/** The smallest PNG: one grey pixel. */
const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==',
  'base64',
)

export function createManualRuntime(): Runtime & { readonly runs: ManualRun[] } {
  const runs: ManualRun[] = []
  return {
    runs,
    generate(
      request: GenerationRequest,
      { signal, onProgress, requestId }: GenerateOptions,
    ): Promise<GeneratedImage> {
      return new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
        runs.push({
          request,
          requestId,
          signal,
          step: (step, steps) => onProgress?.({ step, steps }),
          finish: () => resolve({ png: PNG, width: 1, height: 1, seed: request.seed, model: 'manual' }),
          fail: reject,
        })
      })
    },
    async check() {},
    async close() {},
  }
}
