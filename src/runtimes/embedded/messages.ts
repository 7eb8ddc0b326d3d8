/** The messages between the server and the thread that draws. */
import type { GenerationRequest } from '../request.ts'

export interface WorkerOptions {
  /** Where the model's files are. */
  readonly folder: string
}

export type ToWorker =
  | { readonly kind: 'draw'; readonly id: number; readonly request: GenerationRequest }
  | { readonly kind: 'cancel'; readonly id: number }

export type FromWorker =
  /** The model is loaded. */
  | { readonly kind: 'ready' }
  /** It cannot be loaded; the thread ends. */
  | { readonly kind: 'unusable'; readonly missing: 'onnxruntime-web' | 'model'; readonly reason: string }
  | { readonly kind: 'step'; readonly id: number; readonly step: number; readonly steps: number }
  | { readonly kind: 'drawn'; readonly id: number; readonly picture: Drawn }
  | { readonly kind: 'failed'; readonly id: number; readonly reason: string }

export interface Drawn {
  readonly png: Uint8Array
  readonly width: number
  readonly height: number
  readonly steps: number
  readonly model: string
  readonly inferenceMs: number
}
