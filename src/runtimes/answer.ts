/** From the JSON of a runtime to a picture: base64 found, decoded and checked. */
import { pngSize } from './png.ts'

export interface PictureAnswer {
  /** The document with an empty string where the picture was. */
  readonly document: unknown
  readonly png: Uint8Array
  readonly width: number
  readonly height: number
}

const QUOTE = 0x22
/** The longest that may stand between a key and its value: a colon and white space. */
const GAP = 64
/** Characters decoded at a time, a multiple of 4: small enough for the processor's cache, which saves half the time. */
const SLICE = 65_536

/**
 * Reads a JSON document that carries one PNG as base64 under `key`. The picture is cut out of the bytes before the
 * rest is parsed, because JSON.parse and the text it makes would cost as much as all else together.
 *
 * A quoted key followed by a colon can only be a key: within JSON strings quotes are escaped. Where the key comes
 * more than once, the first counts.
 * @throws Error that says why there is no whole PNG in it.
 */
export function readPictureAnswer(bytes: Buffer, key: string): PictureAnswer {
  const { start, end } = findText(bytes, key)
  const document = JSON.parse(bytes.toString('utf8', 0, start) + bytes.toString('utf8', end))
  const png = decodeBase64(bytes, start, end)
  return { document, png, ...pngSize(png) }
}

/** Where the text under `key` begins and ends. */
function findText(bytes: Buffer, key: string): { start: number; end: number } {
  const name = `"${key}"`
  for (let at = bytes.indexOf(name); at !== -1; at = bytes.indexOf(name, at + 1)) {
    const after = at + name.length
    const gap = /^\s*:\s*"/.exec(bytes.toString('latin1', after, after + GAP))
    if (!gap) continue
    const start = after + gap[0].length
    const end = bytes.indexOf(QUOTE, start)
    if (end === -1) throw new Error(`the text of ${name} has no end`)
    return { start, end }
  }
  throw new Error(`there is no text under ${name}: ${bytes.toString('utf8', 0, 200)}`)
}

function decodeBase64(bytes: Buffer, start: number, end: number): Buffer {
  const decoded = Buffer.allocUnsafe(Math.ceil(((end - start) * 3) / 4))
  let length = 0
  for (let at = start; at < end; at += SLICE)
    length += decoded.write(bytes.toString('latin1', at, Math.min(end, at + SLICE)), length, 'base64')
  const padding = bytes.toString('latin1', Math.max(start, end - 2), end).split('=').length - 1
  if (length === Math.floor(((end - start - padding) * 3) / 4)) return decoded.subarray(0, length)
  // Something in it is no base64: line feeds perhaps, or slashes that JSON escapes. The slow way knows both.
  return Buffer.from(JSON.parse(bytes.toString('latin1', start - 1, end + 1)), 'base64')
}
