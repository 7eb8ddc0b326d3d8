/** How a picture was made, written into its PNG: whoever has the file can make it again. */
import { crc32 } from 'node:zlib'
import packageJson from '../../package.json' with { type: 'json' }
import { AppError } from '../errors.ts'
import type { ImageRecord } from './image.ts'
import { AFTER_IHDR, CHUNK_OVERHEAD, chunksOf, isPng } from './png.ts'

const KEYWORD = 'diffusers-mcp'
const SOFTWARE = `diffusers-mcp/${packageJson.version}`

/**
 * Before the text of an iTXt chunk (W3C PNG, 11.3.3.4): keyword, NUL, no compression (two zero bytes), an empty
 * language tag, NUL, an empty translated keyword, NUL.
 */
const ITXT_HEAD = Buffer.from(`${KEYWORD}\0\0\0\0\0`, 'latin1')

/**
 * What a PNG tells about itself: all that it takes to make it again, and nothing that differs between two runs, so that
 * the same seed gives the same bytes. Owner, ids and times are not in it.
 */
export interface Provenance {
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
  { headroom = 0 }: { headroom?: number | undefined } = {},
): Uint8Array {
  if (!isPng(png))
    throw new AppError(
      'runtime_failed',
      'The runtime answered with something that is not a PNG picture. The operator has to look at the runtime.',
    )
  const text = Buffer.from(JSON.stringify(provenanceOf(record)))
  const length = ITXT_HEAD.byteLength + text.byteLength
  const chunk = Buffer.allocUnsafe(CHUNK_OVERHEAD + length)
  chunk.writeUInt32BE(length, 0)
  chunk.write('iTXt', 4, 'latin1')
  chunk.set(ITXT_HEAD, 8)
  chunk.set(text, 8 + ITXT_HEAD.byteLength)
  // The CRC covers type and data, not the length.
  chunk.writeUInt32BE(crc32(chunk.subarray(4, 8 + length)), 8 + length)

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

/** What `addProvenance` wrote; undefined when there is none. The CRC is not checked. */
export function readProvenance(png: Uint8Array): Provenance | undefined {
  if (!isPng(png)) return undefined
  for (const { type, data } of chunksOf(png)) {
    if (type !== 'iTXt' || ITXT_HEAD.compare(data.subarray(0, ITXT_HEAD.byteLength)) !== 0) continue
    return JSON.parse(new TextDecoder().decode(data.subarray(ITXT_HEAD.byteLength))) as Provenance
  }
  return undefined
}

/** Fields are named one by one, so that a new field of the record stays private until it is added here. */
function provenanceOf(record: ImageRecord): Provenance {
  const { prompt, negative_prompt, seed, num_inference_steps, guidance_scale, width, height, model, target } =
    record
  return {
    software: SOFTWARE,
    prompt,
    ...(negative_prompt === undefined ? {} : { negative_prompt }),
    seed,
    ...(num_inference_steps === undefined ? {} : { num_inference_steps }),
    ...(guidance_scale === undefined ? {} : { guidance_scale }),
    width,
    height,
    model,
    target,
  }
}
