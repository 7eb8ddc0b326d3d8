/** Reads the picture in a runtime's JSON: finds the base64, decodes it and checks that it is a PNG. */
import { pngSize } from '../png.ts'

export interface PictureAnswer {
  /** The document with an empty string where the picture was. */
  readonly document: unknown
  readonly png: Uint8Array
  /** Bytes in front of the picture, in the same buffer, that nothing else uses. */
  readonly headroom: number
  readonly width: number
  readonly height: number
}

const QUOTE = 0x22
/** The longest that may stand between a key and its value: a colon and white space. */
const GAP = 64
/** The most that may come before the picture, mainly a prompt, and after it. To search and parse more would only cost CPU time. */
const REST_MAX_BYTES = 1024 * 1024
/** Characters decoded at a time: long texts cost more in garbage collection than in decoding. */
const SLICE = 8192
/** Room for a chunk about how the picture was made, so that adding it does not take a second copy of the picture. */
const HEADROOM = 4096
/** Room for the picture where the length of the answer is not known; it grows. */
const UNKNOWN_BYTES = 1024 * 1024

export interface PictureReader {
  /** Takes the next piece, and keeps only what it decoded from it. */
  feed(piece: Buffer): void
  /** @throws Error that says why there is no whole PNG in what was fed. */
  end(): PictureAnswer
}

/**
 * Reads a JSON document that carries one PNG as base64 under `key`, piece by piece as it arrives. It decodes the picture
 * at once into its final buffer, and parses only the rest: JSON.parse, the text it makes and the copies would cost more
 * than everything else together.
 *
 * A quoted key followed by a colon can only be a key: within JSON strings quotes are escaped. Where the key comes
 * more than once, the first counts.
 * @param options.bytes length of the whole document, where it is known.
 */
export function createPictureReader({ key, bytes }: { key: string; bytes?: number }): PictureReader {
  const head = createBytes()
  let decoder: ReturnType<typeof createBase64Decoder> | undefined
  let tail: ReturnType<typeof createBytes> | undefined

  function feedHead(piece: Buffer): Buffer | undefined {
    const before = head.length
    if (before > REST_MAX_BYTES) return undefined
    head.add(piece)
    // Only what is new is searched, and as much before it as a key and its gap may take.
    const from = Math.max(0, before - key.length - 2 - GAP)
    const start = startOfText(head.all().subarray(from), key)
    if (start === -1) return undefined
    decoder = createBase64Decoder(bytes)
    // The key may end in this piece and its text begins in it: a quote completes the key.
    head.cutTo(from + start)
    return piece.subarray(from + start - before)
  }

  return {
    feed(piece) {
      if (tail) return tail.length > REST_MAX_BYTES ? undefined : tail.add(piece)
      const text = decoder ? piece : feedHead(piece)
      if (!text) return
      const end = text.indexOf(QUOTE)
      decoder?.feed(end === -1 ? text : text.subarray(0, end))
      if (end === -1) return
      tail = createBytes()
      tail.add(text.subarray(end))
    },

    end() {
      if (!decoder) throw new Error(`there is no text under "${key}": ${head.all().toString('utf8', 0, 200)}`)
      if (!tail) throw new Error(`the text under "${key}" has no end`)
      if (tail.length > REST_MAX_BYTES)
        throw new Error(`more than ${REST_MAX_BYTES} bytes follow the picture`)
      const document = JSON.parse(head.all().toString('utf8') + tail.all().toString('utf8'))
      const png = decoder.end()
      return { document, png, headroom: HEADROOM, ...pngSize(png) }
    },
  }
}

/** Reads a document that has arrived already, in its pieces. @throws Error as `PictureReader.end`. */
export function readPictureAnswer(pieces: readonly Buffer[], key: string): PictureAnswer {
  const reader = createPictureReader({ key, bytes: pieces.reduce((sum, { length }) => sum + length, 0) })
  for (const piece of pieces) reader.feed(piece)
  return reader.end()
}

/** Bytes that grow, at a cost that does not depend on the number of pieces. */
function createBytes() {
  let buffer = Buffer.alloc(0)
  let length = 0
  return {
    get length() {
      return length
    },
    add(piece: Buffer): void {
      if (length + piece.length > buffer.length) {
        const larger = Buffer.allocUnsafe(2 * (length + piece.length))
        buffer.copy(larger, 0, 0, length)
        buffer = larger
      }
      piece.copy(buffer, length)
      length += piece.length
    },
    cutTo(end: number): void {
      length = end
    },
    all: () => buffer.subarray(0, length),
  }
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

/** Decodes the text of a JSON string in pieces; the bytes have HEADROOM in front of them. */
function createBase64Decoder(characters = UNKNOWN_BYTES) {
  // Slow means outside the shared pool: nothing else may use the bytes in front of the picture.
  let decoded = Buffer.allocUnsafeSlow(HEADROOM + Math.ceil((characters * 3) / 4))
  let end = HEADROOM
  // Four characters make three bytes; those that are left over go in front of the next slice.
  let rest = ''
  // The text from the first slice on that is not plain base64: padding, line feeds, or something else.
  let odd: string[] | undefined

  function write(text: string): number {
    const most = Math.ceil((text.length * 3) / 4)
    if (end + most > decoded.length) {
      const larger = Buffer.allocUnsafeSlow(2 * decoded.length + most)
      decoded.copy(larger, HEADROOM, HEADROOM, end)
      decoded = larger
    }
    return decoded.write(text, end, 'base64')
  }

  return {
    feed(piece: Buffer) {
      for (let at = 0; at < piece.length; at += SLICE) {
        const slice = piece.toString('latin1', at, at + SLICE)
        if (odd) {
          odd.push(slice)
          continue
        }
        const text = rest + slice
        const complete = text.length - (text.length % 4)
        const written = write(text.slice(0, complete))
        if (written === (complete * 3) / 4) {
          end += written
          rest = text.slice(complete)
        } else odd = [text]
      }
    },

    end(): Buffer {
      const text = odd?.join('') ?? rest
      // Line feeds perhaps, or slashes that JSON escapes.
      end += write(text.includes('\\') ? JSON.parse(`"${text}"`) : text)
      return decoded.subarray(HEADROOM, end)
    },
  }
}
