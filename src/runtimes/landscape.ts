/**
 * A landscape for every request: sky, sun or moon, hills that fade into haze, and a band that says what it is. Only
 * exact arithmetic (+ - * / and square roots) decides about bytes, so every JavaScript engine paints the same.
 */
import { createHash } from 'node:crypto'
import { GLYPH_HEIGHT, GLYPH_WIDTH, hasInk } from './bitmap-font.ts'

export interface LandscapeOptions {
  readonly prompt: string
  readonly negativePrompt: string
  readonly seed: number
  /** Pixels. */
  readonly width: number
  readonly height: number
  /** More steps: more hills, rougher ridges, and a later hour. */
  readonly steps: number
  /** 0-20: how strong the colours are. */
  readonly guidance: number
}

type Rgb = readonly [number, number, number]
/** Lightness 0-1, chroma 0 to about 0.2, hue in turns. */
type Lch = readonly [lightness: number, chroma: number, hue: number]

interface Mood {
  readonly zenith: Lch
  readonly horizon: Lch
  readonly far: Lch
  readonly near: Lch
  readonly disc: Lch
}

/** A turn of the event loop after so many pixels, about two milliseconds of painting. */
const PIXELS_PER_SLICE = 1 << 16
const SKY_SHADES = 1024
/** Where the sky has reached the colour of the horizon, as a share of the height. */
const SKY_REACH = 0.62
const HILL_SHADES = 256
const LABEL = 'SIMULATED'

/** Paints in slices with a turn of the event loop in between. Returns RGB rows from the top. */
export async function paintLandscape(options: LandscapeOptions): Promise<Uint8Array> {
  const { width, height } = options
  const pixels = new Uint8Array(width * height * 3)
  const paintRow = createPainter(options, pixels)
  const rowsPerSlice = Math.max(1, Math.floor(PIXELS_PER_SLICE / width))
  for (let y = 0; y < height; y++) {
    if (y > 0 && y % rowsPerSlice === 0) await new Promise<void>((resolve) => setImmediate(resolve))
    paintRow(y)
  }
  writeBand(options, pixels)
  return pixels
}

function createPainter(options: LandscapeOptions, pixels: Uint8Array): (y: number) => void {
  const { prompt, negativePrompt, seed, width, height, steps, guidance } = options
  const random = createRandom(`${seed} ${prompt}`)
  const mood = moodOf(random, {
    turn: negativePrompt === '' ? 0 : 0.03 + 0.07 * createRandom(negativePrompt)(),
    strength: 0.55 + guidance * 0.06,
  })
  const sky = gradient(mood.zenith, mood.horizon, SKY_SHADES)
  const disc = rgb(mood.disc)
  const unit = Math.min(width, height)
  const sun = {
    x: (0.2 + 0.6 * random()) * width,
    y: (0.2 + 0.25 * random()) * height,
    radius: unit * (0.05 + 0.06 * random()),
  }
  const halo = unit * (0.5 + 0.35 * random())

  const count = 4 + Math.min(3, Math.floor(steps / 12))
  const roughness = 0.75 - 0.5 / (steps + 1)
  const hills = Array.from({ length: count }, (_, i) => {
    const depth = i / (count - 1)
    const base = mix(mood.far, mood.near, depth)
    return {
      ridge: ridgeOf({ random, width, height, unit, depth, roughness }),
      shades: gradient(base, mix(base, mood.horizon, 0.45 * (1 - depth) + 0.08), HILL_SHADES),
      fade: height * (0.32 - 0.1 * depth),
    }
  })

  return (y) => {
    const dy = y - sun.y
    let at = y * width * 3
    for (let x = 0; x < width; x++) {
      // From the nearest hill to the farthest; the first that covers the pixel fully ends the search.
      let r = 0
      let g = 0
      let b = 0
      let uncovered = 1
      for (let i = count - 1; i >= 0 && uncovered > 0; i--) {
        const { ridge, shades, fade } = hills[i]!
        const below = y + 0.5 - ridge[x]!
        if (below <= 0) continue
        const share = below < 1 ? below * uncovered : uncovered
        const shade = below >= fade ? HILL_SHADES - 1 : ((below / fade) * (HILL_SHADES - 1)) | 0
        r += shades[3 * shade]! * share
        g += shades[3 * shade + 1]! * share
        b += shades[3 * shade + 2]! * share
        uncovered -= share
      }
      if (uncovered > 0) {
        const dx = x - sun.x
        const distance = Math.sqrt(dx * dx + dy * dy)
        const near = distance < halo ? 1 - distance / halo : 0
        const inside = Math.min(1, Math.max(0, sun.radius - distance + 0.5))
        const glow = inside + (1 - inside) * near * near * 0.6
        const shade = 3 * Math.min(SKY_SHADES - 1, ((y / (SKY_REACH * height)) * SKY_SHADES) | 0)
        r += (sky[shade]! + (disc[0] - sky[shade]!) * glow) * uncovered
        g += (sky[shade + 1]! + (disc[1] - sky[shade + 1]!) * glow) * uncovered
        b += (sky[shade + 2]! + (disc[2] - sky[shade + 2]!) * glow) * uncovered
      }
      pixels[at++] = r
      pixels[at++] = g
      pixels[at++] = b
    }
  }
}

interface RidgeOptions {
  readonly random: () => number
  readonly width: number
  readonly height: number
  readonly unit: number
  /** 0 is the farthest hill, 1 the nearest. */
  readonly depth: number
  readonly roughness: number
}

/** For every column the height of a hill's edge, in pixels from the top: smooth noise in several octaves. */
function ridgeOf({ random, width, height, unit, depth, roughness }: RidgeOptions): Float64Array {
  const level = height * (0.46 + 0.4 * depth)
  let swing = unit * (0.13 - 0.03 * depth)
  let length = unit * (0.5 + 0.35 * random())
  const ridge = new Float64Array(width).fill(level)
  for (let octave = 0; octave < 6 && length > 3; octave++) {
    const knots = Array.from({ length: Math.ceil(width / length) + 2 }, () => random() * 2 - 1)
    const offset = random()
    for (let x = 0; x < width; x++) {
      const position = x / length + offset
      const knot = position | 0
      const t = position - knot
      ridge[x] = ridge[x]! + swing * lerp(knots[knot]!, knots[knot + 1]!, t * t * (3 - 2 * t))
    }
    swing *= roughness * 0.55
    length *= 0.47
  }
  return ridge
}

/** A time of day with colours that go together: a cool sky, a horizon near it on the colour circle, a warm light. */
function moodOf(random: () => number, { turn, strength }: { turn: number; strength: number }): Mood {
  const between = (from: number, to: number) => from + (to - from) * random()
  const of = (lightness: number, chroma: number, hue: number): Lch => [
    lightness,
    chroma * strength,
    hue + turn,
  ]
  const kind = random()
  if (kind < 0.35) {
    const sky = between(0.55, 0.78)
    const land = sky + between(-0.14, 0.1)
    return {
      zenith: of(0.68, 0.11, sky),
      horizon: of(0.94, 0.045, sky + between(-0.05, 0.2)),
      far: of(0.82, 0.06, land),
      near: of(0.33, 0.075, land - 0.03),
      disc: of(0.99, 0.035, 0.25),
    }
  }
  if (kind < 0.75) {
    const sky = between(0.7, 0.93)
    const horizon = between(1.03, 1.19)
    return {
      zenith: of(0.46, 0.12, sky),
      horizon: of(0.86, 0.12, horizon),
      far: of(0.7, 0.11, horizon - 0.06),
      near: of(0.21, 0.07, sky),
      disc: of(0.96, 0.08, 1.2),
    }
  }
  const sky = between(0.6, 0.84)
  const horizon = sky + between(-0.12, 0.16)
  return {
    zenith: of(0.2, 0.07, sky),
    horizon: of(0.55, 0.11, horizon),
    far: of(0.44, 0.09, horizon),
    near: of(0.13, 0.045, sky),
    disc: of(0.96, 0.025, 0.25),
  }
}

/** The band at the lower edge: SIMULATED, and where there is room the beginning of the prompt. */
function writeBand({ prompt, width, height }: LandscapeOptions, pixels: Uint8Array): void {
  const scale = Math.max(1, Math.floor(Math.min(width / 230, height / 150)))
  const margin = 2 * scale
  const top = height - GLYPH_HEIGHT * scale - 2 * margin
  for (let i = top * width * 3; i < pixels.length; i++) pixels[i] = pixels[i]! * 0.35

  const advance = (GLYPH_WIDTH + 1) * scale
  const room = Math.floor((width - 2 * margin + scale) / advance)
  for (const [i, character] of bandText(prompt, room).entries())
    for (let y = 0; y < GLYPH_HEIGHT * scale; y++)
      for (let x = 0; x < GLYPH_WIDTH * scale; x++)
        if (hasInk(character, Math.floor(x / scale), Math.floor(y / scale))) {
          const at = ((top + margin + y) * width + margin + i * advance + x) * 3
          pixels.fill(i < LABEL.length ? 255 : 205, at, at + 3)
        }
}

/** At most `room` characters; a prompt that is cut ends in dots, and one that would be cut to nothing is left out. */
function bandText(prompt: string, room: number): string[] {
  // The font has plain capitals only: accents go, so that "für" reads FUR.
  const plain = prompt.toUpperCase().normalize('NFD').replace(/\p{M}/gu, '').replace(/\s+/g, ' ').trim()
  const text = [...`${LABEL}  ${plain}`]
  if (text.length <= room) return text
  return room < LABEL.length + 8 ? [...LABEL] : [...text.slice(0, room - 2), '.', '.']
}

/** Numbers in [0, 1), the same for the same text (sfc32, seeded by SHA-256). */
function createRandom(text: string): () => number {
  const hash = createHash('sha256').update(text).digest()
  let [a, b, c, d] = [0, 4, 8, 12].map((at) => hash.readInt32LE(at)) as [number, number, number, number]
  return () => {
    const sum = (((a + b) | 0) + d) | 0
    d = (d + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + sum) | 0
    return (sum >>> 0) / 4294967296
  }
}

function lerp(from: number, to: number, share: number): number {
  return from + (to - from) * share
}

/** Between two colours; the hue takes the straight way, which the moods keep short. */
function mix(from: Lch, to: Lch, share: number): Lch {
  return [lerp(from[0], to[0], share), lerp(from[1], to[1], share), lerp(from[2], to[2], share)]
}

/** `shades` RGB triples from one colour to another. */
function gradient(from: Lch, to: Lch, shades: number): Float64Array {
  const table = new Float64Array(3 * shades)
  for (let i = 0; i < shades; i++) table.set(rgb(mix(from, to, i / (shades - 1))), 3 * i)
  return table
}

/** OKLab (Björn Ottosson, 2020) to sRGB, 0-255. */
function rgb([lightness, chroma, hue]: Lch): Rgb {
  const a = chroma * wave(hue + 0.25)
  const b = chroma * wave(hue)
  const l = cube(lightness + 0.3963377774 * a + 0.2158037573 * b)
  const m = cube(lightness - 0.1055613458 * a - 0.0638541728 * b)
  const s = cube(lightness - 0.0894841775 * a - 1.291485548 * b)
  return [
    gamma(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    gamma(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    gamma(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ]
}

/** Sine of `turns` full turns, to about 0.001 (Bhaskara's formula): Math.sin may differ between engines. */
function wave(turns: number): number {
  const t = turns - Math.floor(turns)
  const half = t < 0.5 ? t * 2 : t * 2 - 1
  const product = half * (1 - half)
  const value = (16 * product) / (5 - 4 * product)
  return t < 0.5 ? value : -value
}

function cube(value: number): number {
  return value * value * value
}

/** Linear light to sRGB by square roots: x^0.4375 is near enough to the curve of 1/2.4 with its offset. */
function gamma(linear: number): number {
  const x = Math.min(1, Math.max(0, linear))
  const quarter = Math.sqrt(Math.sqrt(x))
  const sixteenth = Math.sqrt(Math.sqrt(quarter))
  return 255 * (quarter * Math.sqrt(quarter) * sixteenth * 1)
}
