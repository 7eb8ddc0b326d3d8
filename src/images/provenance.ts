/** Writes into a PNG how it was made, so that anyone who has the file can make it again. */
import packageJson from '../../package.json' with { type: 'json' }
import { AppError } from '../errors.ts'
import { AFTER_IHDR, isPng, pngChunk } from '../png.ts'
import type { ImageRecord } from './image.ts'

const KEYWORD = 'diffusers-mcp'
const SOFTWARE = `diffusers-mcp/${packageJson.version}`

/**
 * Before the text of an iTXt chunk (W3C PNG, 11.3.3.4): keyword, NUL, no compression (two zero bytes), an empty
 * language tag, NUL, an empty translated keyword, NUL.
 */
const ITXT_HEAD = Buffer.from(`${KEYWORD}\0\0\0\0\0`, 'latin1')

/**
 * What a PNG says about itself: everything that is needed to make it again, and nothing that differs between two runs,
 * so that the same seed gives the same bytes. It holds no owner, ids or times.
 */
interface Provenance {
  readonly software: string
  readonly prompt: string
  readonly negative_prompt?: string
  readonly seed: number
  readonly num_inference_steps?: number
  readonly guidance_scale?: number
  readonly width: number
  readonly height: number
  readonly model: string
  readonly target: string
}

/**
 * The PNG with one more iTXt chunk right after IHDR; all other bytes are the same. Where the chunk fits into
 * `headroom`, signature and IHDR move forward to make room, which costs nothing and leaves `png` itself unusable;
 * else the picture is copied into a buffer of its own.
 * @param headroom bytes in front of `png`, in the same buffer, that may be written to.
 * @throws AppError `runtime_failed` when the bytes are no PNG.
 */
export function addProvenance(
  png: Uint8Array,
  record: ImageRecord,
  { headroom = 0 }: { headroom?: number } = {},
): Uint8Array {
  if (!isPng(png))
    throw new AppError(
      'runtime_failed',
      'The runtime answered with something that is not a PNG picture. The operator has to look at the runtime.',
    )
  const text = Buffer.from(JSON.stringify(provenanceOf(record)))
  const chunk = Buffer.concat(pngChunk('iTXt', Buffer.concat([ITXT_HEAD, text])))
  const bytes = png.byteLength + chunk.byteLength
  if (chunk.byteLength <= headroom) {
    const result = new Uint8Array(png.buffer, png.byteOffset - chunk.byteLength, bytes)
    result.copyWithin(0, chunk.byteLength, chunk.byteLength + AFTER_IHDR)
    result.set(chunk, AFTER_IHDR)
    return result
  }
  // Slow means outside the shared pool: a stored picture must not keep other buffers alive.
  const result = Buffer.allocUnsafeSlow(bytes)
  result.set(png.subarray(0, AFTER_IHDR), 0)
  result.set(chunk, AFTER_IHDR)
  result.set(png.subarray(AFTER_IHDR), AFTER_IHDR + chunk.byteLength)
  return result
}

/** Fields are named one by one, so that a new field of the record stays private until it is added here. */
function provenanceOf(record: ImageRecord): Provenance {
  const { prompt, negative_prompt, seed, num_inference_steps, guidance_scale, width, height, model, target } =
    record
  return {
    software: SOFTWARE,
    prompt,
    negative_prompt,
    seed,
    num_inference_steps,
    guidance_scale,
    width,
    height,
    model,
    target,
  }
}
