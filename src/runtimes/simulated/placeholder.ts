/**
 * A placeholder picture: a gradient between two colours with the word SIMULATED on it. Only exact arithmetic (+ - * /)
 * decides about bytes, so every JavaScript engine paints the same.
 */
import { sha256 } from '../../hash.ts'

export interface PlaceholderOptions {
  readonly prompt: string
  readonly seed: number
  /** Pixels, at least 64 like the height. */
  readonly width: number
  readonly height: number
}

/** After so many pixels, about a millisecond of painting, the event loop gets a turn. */
const PIXELS_PER_SLICE = 1 << 16

const WORD = [
  ' ####  ###  #   # #   # #      ###  ##### ##### ####',
  '#       #   ## ## #   # #     #   #   #   #     #   #',
  '#       #   # # # #   # #     #   #   #   #     #   #',
  ' ###    #   # # # #   # #     #####   #   ####  #   #',
  '    #   #   #   # #   # #     #   #   #   #     #   #',
  '    #   #   #   # #   # #     #   #   #   #     #   #',
  '####   ###  #   #  ###  ##### #   #   #   ##### ####',
]
const WORD_WIDTH = 53
/** The canvas on which the word has its smallest size. */
const WORD_CANVAS = { width: 64, height: 16 }

/** RGB rows from the top. The colours come from prompt and seed. */
export async function paintPlaceholder(options: PlaceholderOptions): Promise<Uint8Array> {
  const { prompt, seed, width, height } = options
  const hash = sha256(`${seed} ${prompt}`)
  // Dark enough for white letters.
  const [r0, g0, b0, r1, g1, b1] = Array.from(hash.subarray(0, 6), (byte) => 32 + byte / 2) as SixNumbers
  const [dr, dg, db] = [r1 - r0, g1 - g0, b1 - b0]
  const pixels = new Uint8Array(width * height * 3)
  const rowsPerSlice = Math.max(1, Math.floor(PIXELS_PER_SLICE / width))
  // Dithered, so that the PNG is as heavy as that of a simple drawing and not a few kilobytes.
  const dither = new Float64Array(width)
  let random = hash.readInt32LE(8)
  let at = 0
  for (let y = 0; y < height; y++) {
    if (y > 0 && y % rowsPerSlice === 0) await new Promise<void>((resolve) => setImmediate(resolve))
    for (let x = 0; x < width; x++) {
      if (y % 2 === 0) {
        random = (Math.imul(random, 1664525) + 1013904223) | 0
        dither[x] = (random >>> 24) / 256
      }
      const share = (x / width + y / height) / 2
      const threshold = dither[x]!
      pixels[at++] = r0 + dr * share + threshold
      pixels[at++] = g0 + dg * share + threshold
      pixels[at++] = b0 + db * share + threshold
    }
  }
  writeWord(pixels, options)
  return pixels
}

type SixNumbers = [number, number, number, number, number, number]

/** SIMULATED in white in the middle, as large as fits. */
function writeWord(pixels: Uint8Array, { width, height }: PlaceholderOptions): void {
  const scale = Math.floor(Math.min(width / WORD_CANVAS.width, height / WORD_CANVAS.height))
  const left = Math.floor((width - WORD_WIDTH * scale) / 2)
  const top = Math.floor((height - WORD.length * scale) / 2)
  for (const [row, line] of WORD.entries())
    for (const { index } of line.matchAll(/#/g))
      for (let y = top + row * scale; y < top + (row + 1) * scale; y++) {
        const start = (y * width + left + index * scale) * 3
        pixels.fill(255, start, start + 3 * scale)
      }
}
