/** The outline of a PNG file (W3C PNG, third edition, section 5): a signature, then chunks. */

/** Length and type before a chunk's data, CRC after it. */
export const CHUNK_OVERHEAD = 12
const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)
const IHDR_BYTES = 13

/** Where the chunks after IHDR begin, in bytes. */
export const AFTER_IHDR = SIGNATURE.byteLength + CHUNK_OVERHEAD + IHDR_BYTES

export interface Chunk {
  readonly type: string
  readonly data: Uint8Array
}

/** True when the bytes begin as every PNG does: signature, then an IHDR chunk. The rest is not looked at. */
export function isPng(bytes: Uint8Array): boolean {
  if (bytes.byteLength < AFTER_IHDR || SIGNATURE.some((byte, index) => bytes[index] !== byte)) return false
  const { value: first } = chunksOf(bytes).next()
  return first?.type === 'IHDR' && first.data.byteLength === IHDR_BYTES
}

/** The chunks in order, as views into the bytes; ends at the first one that is cut off. */
export function* chunksOf(png: Uint8Array): Generator<Chunk, undefined> {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength)
  for (let at = SIGNATURE.byteLength; at + CHUNK_OVERHEAD <= png.byteLength; ) {
    const length = view.getUint32(at)
    if (at + CHUNK_OVERHEAD + length > png.byteLength) return
    yield {
      type: String.fromCharCode(...png.subarray(at + 4, at + 8)),
      data: png.subarray(at + 8, at + 8 + length),
    }
    at += CHUNK_OVERHEAD + length
  }
}
