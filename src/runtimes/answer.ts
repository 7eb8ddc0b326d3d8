/** From the JSON of a runtime to a picture: base64 found, decoded and checked. */
import { pngSize } from './png.ts'

export interface PictureAnswer {
  /** The document with an empty string where the picture was. */
  readonly document: unknown
  readonly png: Uint8Array
  /** Bytes in front of the picture, in the same buffer, that belong to nobody. */
  readonly headroom: number
  readonly width: number
  readonly height: number
}

const QUOTE = 0x22
/** The longest that may stand between a key and its value: a colon and white space. */
const GAP = 64
/** Characters decoded at a time: long texts cost more in garbage collection than in decoding. */
const SLICE = 8192
/** Room for a chunk about how the picture was made, so that adding it does not take a second copy of the picture. */
const HEADROOM = 4096

/**
 * Reads a JSON document that carries one PNG as base64 under `key`, from the pieces it came in. The picture is cut
 * out before the rest is parsed, and the pieces are not joined: JSON.parse, the text it makes and the copies would
 * cost more than all else together.
 *
 * A quoted key followed by a colon can only be a key: within JSON strings quotes are escaped. Where the key comes
 * more than once, the first counts.
 * @throws Error that says why there is no whole PNG in it.
 */
export function readPictureAnswer(pieces: readonly Buffer[], key: string): PictureAnswer {
  const { head, text, tail } = cutOut(pieces, key)
  const document = JSON.parse(head.toString('utf8') + tail.toString('utf8'))
  const png = decodeBase64(text)
  return { document, png, headroom: HEADROOM, ...pngSize(png) }
}

interface Parts {
  /** Up to the quote that opens the text. */
  readonly head: Buffer
  readonly text: readonly Buffer[]
  /** From the quote that closes it. */
  readonly tail: Buffer
}

function cutOut(pieces: readonly Buffer[], key: string): Parts {
  let whole = pieces
  let start = startOfText(whole[0] ?? Buffer.alloc(0), key)
  if (start === -1) {
    // A long prompt before the picture, or a cut in the wrong place.
    whole = [Buffer.concat(pieces)]
    start = startOfText(whole[0]!, key)
  }
  if (start === -1) throw new Error(`there is no text under "${key}": ${whole[0]!.toString('utf8', 0, 200)}`)
  const text: Buffer[] = []
  for (const [i, piece] of whole.entries()) {
    const from = i === 0 ? start : 0
    const end = piece.indexOf(QUOTE, from)
    text.push(piece.subarray(from, end === -1 ? piece.length : end))
    if (end !== -1)
      return {
        head: whole[0]!.subarray(0, start),
        text,
        tail: Buffer.concat([piece.subarray(end), ...whole.slice(i + 1)]),
      }
  }
  throw new Error(`the text under "${key}" has no end`)
}

/** Where the text under `key` begins, or -1. */
function startOfText(bytes: Buffer, key: string): number {
  const name = `"${key}"`
  for (let at = bytes.indexOf(name); at !== -1; at = bytes.indexOf(name, at + 1)) {
    const after = at + name.length
    const gap = /^\s*:\s*"/.exec(bytes.toString('latin1', after, after + GAP))
    if (gap) return after + gap[0].length
  }
  return -1
}

/** The bytes, with HEADROOM in front of them. */
function decodeBase64(parts: readonly Buffer[]): Buffer {
  const characters = parts.reduce((sum, part) => sum + part.length, 0)
  // Slow means outside the shared pool: what is in front of the picture must be nobody else's.
  const decoded = Buffer.allocUnsafeSlow(HEADROOM + Math.ceil((characters * 3) / 4))
  let end = HEADROOM
  // Four characters make three bytes; those that are left over go in front of the next slice.
  let rest = ''
  for (const part of parts)
    for (let at = 0; at < part.length; at += SLICE) {
      const text = rest + part.toString('latin1', at, at + SLICE)
      const complete = text.length - (text.length % 4)
      end += decoded.write(text.slice(0, complete), end, 'base64')
      rest = text.slice(complete)
    }
  end += decoded.write(rest, end, 'base64')
  const padding = parts.slice(-2).reduce((sum, part) => sum + paddingOf(part), 0)
  // Else something in it is no base64: line feeds perhaps, or slashes that JSON escapes. The slow way knows both.
  if (end - HEADROOM !== Math.floor(((characters - padding) * 3) / 4))
    end =
      HEADROOM + decoded.write(JSON.parse(`"${Buffer.concat(parts).toString('latin1')}"`), HEADROOM, 'base64')
  return decoded.subarray(HEADROOM, end)
}

/** How many of the last two characters are `=`. */
function paddingOf(part: Buffer): number {
  return part.toString('latin1', Math.max(0, part.length - 2)).split('=').length - 1
}
