/** Makes a picture small enough to travel inside an answer. previews.ts says how many at once, and for whom first. */
import sharp from 'sharp'
import { AppError } from '../errors.ts'
import { isPng } from '../png.ts'

/** The largest picture of the request vocabulary. */
const MAX_INPUT_PIXELS = 2048 * 2048
/** WebP qualities, tried one after the other. */
const QUALITIES = [82, 65, 45, 25, 10]
/** Pixels: the longest side is halved down to this when the lowest quality does not fit. */
const SMALLEST_SIDE = 64
/** WebP effort 0-6. Against the default of 4: a third of the time, for a file about 4 % larger. */
const EFFORT = 2

// One thread for each preview.
sharp.concurrency(1)
// Each picture is decoded once, so that a cache of decoded pictures would only take memory.
sharp.cache(false)

export interface Preview {
  readonly bytes: Uint8Array
  readonly media_type: 'image/webp'
  /** Pixels. */
  readonly width: number
  readonly height: number
}

/** How large a preview may be. */
export interface PreviewSize {
  /** Pixels; absent: 1024. */
  readonly maxSide?: number
  readonly maxBytes: number
}

/**
 * A WebP of a PNG of at most 2048x2048 pixels. The longest side is at most `maxSide` pixels and never more than the
 * picture's own; quality, then size are lowered until the file has at most `maxBytes`.
 * @throws AppError `runtime_failed` when the picture cannot be decoded or is too big, `too_large` when nothing fits; the
 * signal's reason once it aborts, at the latest after the step that is under way.
 */
export async function makePreview(
  png: Uint8Array,
  { maxSide = 1024, maxBytes }: PreviewSize,
  signal?: AbortSignal,
): Promise<Preview> {
  if (!isPng(png)) throw undecodable(undefined)
  let side = maxSide
  do {
    const { data, info } = await decode(png, side)
    for (const quality of QUALITIES) {
      signal?.throwIfAborted()
      const bytes = await sharp(data, { raw: info }).webp({ quality, effort: EFFORT }).toBuffer()
      if (bytes.byteLength <= maxBytes)
        return { bytes, media_type: 'image/webp', width: info.width, height: info.height }
    }
    side = Math.floor(Math.max(info.width, info.height) / 2)
  } while (side >= SMALLEST_SIDE)
  throw new AppError(
    'too_large',
    `No preview of the picture fits into ${maxBytes} bytes. Open it by its link, or let the operator raise INLINE_IMAGE_MAX_BYTES.`,
  )
}

/** Pixels, decoded once for all qualities: decoding a large PNG costs more than encoding a small WebP. */
async function decode(png: Uint8Array, side: number) {
  try {
    return await sharp(png, { limitInputPixels: MAX_INPUT_PIXELS })
      .resize({ width: side, height: side, fit: 'inside', withoutEnlargement: true })
      .raw()
      .toBuffer({ resolveWithObject: true })
  } catch (error) {
    throw undecodable(error)
  }
}

function undecodable(cause: unknown): AppError {
  return new AppError(
    'runtime_failed',
    'The runtime made a picture that cannot be decoded, so there is no preview of it. Generate it again.',
    { cause },
  )
}
