/** Whether bytes are a whole PNG of the size that was told: signature, header and end (RFC 2083, 3.2 and 4.1). */

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]
/** A chunk without data: length 0, name, and the checksum of that name. */
const END = [0, 0, 0, 0, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82]
/** Where the IHDR chunk has width and height. */
const SIZE_AT = 16

/** What is wrong with a PNG of `width` x `height` pixels; undefined when nothing is. */
export function faultOfPng(
  bytes: ArrayBuffer,
  { width, height }: { width: number; height: number },
): string | undefined {
  const at = (offset: number, expected: readonly number[]) => {
    const found = new Uint8Array(bytes, offset, expected.length)
    return expected.every((byte, index) => found[index] === byte)
  }
  if (bytes.byteLength < SIZE_AT + 8 + END.length) return `${bytes.byteLength} bytes are no PNG`
  if (!at(0, SIGNATURE)) return 'it does not begin as a PNG does'
  if (!at(bytes.byteLength - END.length, END)) return 'it is cut off: the end of the PNG is missing'
  const size = new DataView(bytes, SIZE_AT)
  const [realWidth, realHeight] = [size.getUint32(0), size.getUint32(4)]
  if (realWidth !== width || realHeight !== height)
    return `it is ${realWidth}x${realHeight}, not ${width}x${height}`
  return undefined
}
