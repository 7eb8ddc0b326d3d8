/** The request vocabulary of MCP, REST, WebSocket and the runtime's instances, in one schema. */
import { z } from 'zod'

/** Seeds are whole numbers from 0 up to this one, which is no seed itself. */
export const SEED_RANGE = 2 ** 32

/** The longest side of a picture, in pixels. */
export const MAX_SIDE = 2048

const size = (what: string) =>
  z
    .int(`${what} must be a whole number of pixels`)
    .min(64, `${what} must be at least 64 pixels`)
    .max(MAX_SIDE, `${what} must be at most ${MAX_SIDE} pixels`)
    .multipleOf(8, `${what} must be a multiple of 8`)

/** What a caller may ask for. Absent values take the target's defaults; without a seed the server draws one at random. */
export const imageRequest = z.strictObject({
  prompt: z
    .string()
    .min(1, 'prompt must not be empty')
    .max(2000, 'prompt must have at most 2000 characters')
    .describe('What the picture should show, 1-2000 characters.'),
  negative_prompt: z
    .string()
    .max(2000, 'negative_prompt must have at most 2000 characters')
    .optional()
    .describe('What the picture should not show, at most 2000 characters.'),
  width: size('width').optional().describe('Width in pixels: 64-2048, a multiple of 8.'),
  height: size('height').optional().describe('Height in pixels: 64-2048, a multiple of 8.'),
  num_inference_steps: z
    .int('num_inference_steps must be a whole number')
    .min(1, 'num_inference_steps must be at least 1')
    .max(200, 'num_inference_steps must be at most 200')
    .optional()
    .describe('Denoising steps, 1-200: more steps take longer and usually look better.'),
  guidance_scale: z
    .number('guidance_scale must be a number')
    .min(0, 'guidance_scale must be at least 0')
    .max(20, 'guidance_scale must be at most 20')
    .optional()
    .describe('How closely to follow the prompt, 0-20.'),
  seed: z
    .int('seed must be a whole number')
    .min(0, 'seed must be at least 0')
    .max(SEED_RANGE - 1, 'seed must be at most 4294967295')
    .optional()
    .describe('0..4294967295: the same seed and settings give the same picture.'),
  model: z
    .string()
    .min(1, 'model must not be empty')
    .max(200, 'model must have at most 200 characters')
    .optional()
    .describe("A model's name as list_image_models gives it; absent: the default one."),
})

export type ImageRequest = z.output<typeof imageRequest>

/** Values a target fills in where the request has none. */
export const targetDefaults = imageRequest
  .pick({ width: true, height: true, num_inference_steps: true, guidance_scale: true, negative_prompt: true })
  .partial()

/** A request as it goes to a runtime: with a seed and the target's defaults. The model has chosen the runtime. */
export interface GenerationRequest {
  readonly prompt: string
  readonly negative_prompt?: string
  readonly width?: number
  readonly height?: number
  readonly num_inference_steps?: number
  readonly guidance_scale?: number
  readonly seed: number
}
