/** The outline of a PNG file (W3C PNG, third edition, section 5): a signature, then chunks. Reads its size, writes one. */
import { promisify } from 'node:util'
import { constants, crc32, deflate } from 'node:zlib'

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
/** Length and type of the first chunk, whose data has 13 bytes. */
const IHDR = Buffer.from('\0\0\0\rIHDR', 'latin1')
const IEND = Buffer.from('0000000049454e44ae426082', 'hex')
/** Filtering a slice of this many bytes takes about a millisecond. */
const SLICE_BYTES = 256 * 1024

/** Where the chunks after IHDR begin, in bytes: after signature, IHDR's head, data and CRC. */
export const AFTER_IHDR = SIGNATURE.length + IHDR.length + 13 + 4

const deflateInThreadPool = promisify(deflate)

/** True when the bytes begin as every PNG does: signature, then an IHDR chunk. It does not look at the rest. */
export function isPng(bytes: Uint8Array): boolean {
  return bytes.length >= AFTER_IHDR && begins(bytes, SIGNATURE) && begins(bytes.subarray(8), IHDR)
}

/** Bits per channel by colour type (W3C PNG, 11.2.1): grey, RGB, palette, grey and RGB with alpha. */
const BIT_DEPTHS: Readonly<Record<number, readonly number[]>> = {
  0: [1, 2, 4, 8, 16],
  2: [8, 16],
  3: [1, 2, 4, 8],
  4: [8, 16],
  6: [8, 16],
}

/**
 * Width and height, in pixels, of a whole PNG: it has its signature, begins with an IHDR that a decoder can follow, and ends
 * with IEND.
 * @throws Error that says what is missing or wrong.
 */
export function pngSize(bytes: Uint8Array): { width: number; height: number } {
  if (!begins(bytes, SIGNATURE)) throw new Error('it does not begin with the signature of a PNG')
  if (!isPng(bytes)) throw new Error('the PNG has no IHDR chunk')
  if (!begins(bytes.subarray(-IEND.length), IEND))
    throw new Error('the PNG does not end with IEND: it is truncated')
  const view = new DataView(bytes.buffer, bytes.byteOffset, AFTER_IHDR)
  const [width, height] = [view.getUint32(16), view.getUint32(20)]
  if (width === 0 || height === 0) throw new Error(`the PNG has ${width}x${height} pixels`)
  const [depth, colour, compression, filter, interlace] = bytes.subarray(24, 29) as unknown as number[]
  if (!BIT_DEPTHS[colour!]?.includes(depth!))
    throw new Error(`the PNG has colour type ${colour} with ${depth} bits, which does not exist`)
  if (compression !== 0 || filter !== 0 || interlace! > 1)
    throw new Error('the PNG has a compression, filter or interlace method that does not exist')
  return { width, height }
}

/** A chunk in three parts: length and type, the data itself, the CRC. */
export function pngChunk(type: string, data: Uint8Array): [Buffer, Uint8Array, Buffer] {
  const head = Buffer.alloc(8)
  head.writeUInt32BE(data.length, 0)
  head.write(type, 4, 'latin1')
  const crc = Buffer.alloc(4)
  // The CRC covers type and data, not the length.
  crc.writeUInt32BE(crc32(data, crc32(head.subarray(4))), 0)
  return [head, data, crc]
}

export interface EncodePngOptions {
  readonly width: number
  readonly height: number
  /** Rows from the top, 3 (RGB) or 4 (RGBA) bytes a pixel, no padding. */
  readonly pixels: Uint8Array
  readonly channels: 3 | 4
  /** Content of a private ancillary chunk that decoders skip. It makes a picture heavier, for load tests. */
  readonly padding?: Uint8Array
}

/**
 * Pixels as a PNG with 8 bits a channel. Long pictures are filtered in slices with a turn of the event loop in
 * between; compression runs in the thread pool.
 * @throws Error when `pixels` has not width x height x channels bytes.
 */
export async function encodePng(options: EncodePngOptions): Promise<Uint8Array> {
  const { width, height, pixels, channels, padding } = options
  if (pixels.length !== width * height * channels)
    throw new Error(`${width}x${height} pixels of ${channels} bytes are not ${pixels.length} bytes`)
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, channels === 3 ? 2 : 6], 8)
  // Runs only, no search for other repetitions: it is faster, and the only strategy for which every zlib makes the
  // same bytes.
  const data = await deflateInThreadPool(await filterRows(pixels, width * channels), {
    strategy: constants.Z_RLE,
  })
  return Buffer.concat([
    SIGNATURE,
    ...pngChunk('IHDR', header),
    ...(padding ? pngChunk('paDd', padding) : []),
    ...pngChunk('IDAT', data),
    IEND,
  ])
}

/** Each row preceded by its filter type: 2 (Up) everywhere, which suits pictures that change slowly downwards. */
async function filterRows(pixels: Uint8Array, stride: number): Promise<Uint8Array> {
  const rows = pixels.length / stride
  const filtered = new Uint8Array(rows * (stride + 1))
  const rowsPerSlice = Math.max(1, Math.floor(SLICE_BYTES / stride))
  for (let row = 0; row < rows; row++) {
    if (row > 0 && row % rowsPerSlice === 0) await new Promise<void>((resolve) => setImmediate(resolve))
    const from = row * stride
    const to = row * (stride + 1)
    filtered[to] = 2
    if (row === 0) filtered.set(pixels.subarray(0, stride), 1)
    else
      for (let i = 0; i < stride; i++) filtered[to + 1 + i] = pixels[from + i]! - pixels[from + i - stride]!
  }
  return filtered
}

function begins(bytes: Uint8Array, start: Uint8Array): boolean {
  return start.every((byte, index) => bytes[index] === byte)
}
