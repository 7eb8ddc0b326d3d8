/** What the server needs of a diffusion runtime, whichever dialect it speaks. */
import type { GenerationRequest } from './request.ts'

/** Step `step` of `steps` of the denoising loop is done. */
export interface StepProgress {
  readonly step: number
  readonly steps: number
}

export interface GeneratedImage {
  /** A whole PNG. */
  readonly png: Uint8Array
  /** Bytes in front of `png`, in the same buffer, that the caller may write to; absent: none. */
  readonly headroom?: number
  /** Pixels, read from the PNG's header. */
  readonly width: number
  readonly height: number
  readonly seed: number
  /** The model's name as the runtime gave it. */
  readonly model: string
  /** Denoising steps made, if the runtime says so. */
  readonly steps?: number
  /** Time in the runtime without queueing, in milliseconds, if the runtime says so. */
  readonly inferenceMs?: number
}

export interface GenerateOptions {
  /** Aborting it must free the runtime within one step; `generate` then rejects with the signal's reason. */
  readonly signal: AbortSignal
  readonly onProgress?: (progress: StepProgress) => void
  /** Sent along for the runtime's log. */
  readonly requestId?: string
}

/** A client of one runtime endpoint. */
export interface Runtime {
  /** What it draws and how to ask for it, for the author of a prompt; absent: unknown. */
  readonly description?: string
  /**
   * Makes one picture.
   * @throws AppError `invalid_request` (the runtime refuses the parameters), `runtime_unavailable` (down, not
   * ready or full; with Retry-After), `runtime_failed` (died half-way, garbage or a truncated answer).
   */
  generate(request: GenerationRequest, options: GenerateOptions): Promise<GeneratedImage>
  /**
   * Resolves when the runtime could take a request now.
   * @throws AppError `runtime_unavailable` that says why not.
   */
  check(options: { signal: AbortSignal }): Promise<void>
  /**
   * Prepares for the first picture ahead of time; absent: there is nothing to prepare.
   * @throws AppError `runtime_unavailable` that says why it cannot.
   */
  warmUp?(): Promise<void>
  /** Closes idle connections. */
  close(): Promise<void>
}
