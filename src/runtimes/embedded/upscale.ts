/** Enlarges small pictures. */

export interface UpscaleOptions {
  /** Of a square: red, green and blue planes one after the other, each about -1 to 1. */
  readonly planes: Float32Array
  /** Pixels of a side of the square. */
  readonly side: number
  readonly width: number
  readonly height: number
}

/**
 * Puts the square in the middle of a canvas, as large as fits, and continues its edge to the ends of the canvas. Cubic interpolation
 * (Catmull and Rom) kept within the colours around, so that flat areas stay flat and edges get no halo.
 * Returns width x height x 3 bytes.
 */
export function upscale({ planes, side, width, height }: UpscaleOptions): Uint8Array {
  const fitted = Math.min(width, height)
  const columns = weightsOf({ from: side, to: fitted, length: width })
  const rows = weightsOf({ from: side, to: fitted, length: height })
  const pixels = new Uint8Array(width * height * 3)
  // One row of the canvas at a time: the source rows are mixed first, then the columns.
  const mixed = new Float32Array(side)
  const low = new Float32Array(side)
  const high = new Float32Array(side)
  for (let channel = 0; channel < 3; channel += 1) {
    const plane = planes.subarray(channel * side * side, (channel + 1) * side * side)
    for (let y = 0; y < height; y += 1) {
      const row = rows[y] as Tap
      for (let x = 0; x < side; x += 1) {
        const [a, b, c, d] = row.at.map((from) => plane[from * side + x] as number) as Four
        mixed[x] = a * row.weight[0] + b * row.weight[1] + c * row.weight[2] + d * row.weight[3]
        low[x] = Math.min(b, c)
        high[x] = Math.max(b, c)
      }
      for (let x = 0; x < width; x += 1) {
        const { at, weight } = columns[x] as Tap
        const value =
          mixed[at[0]]! * weight[0] +
          mixed[at[1]]! * weight[1] +
          mixed[at[2]]! * weight[2] +
          mixed[at[3]]! * weight[3]
        const least = Math.min(low[at[1]]!, low[at[2]]!)
        const most = Math.max(high[at[1]]!, high[at[2]]!)
        const kept = Math.min(most, Math.max(least, value))
        pixels[(y * width + x) * 3 + channel] = Math.round(Math.min(255, Math.max(0, (kept + 1) * 127.5)))
      }
    }
  }
  return pixels
}

type Four = [number, number, number, number]

/** The four neighbours of a point between them, and how much each counts. */
interface Tap {
  readonly at: Four
  readonly weight: Four
}

/** For each of `length` pixels, of which the `to` in the middle show `from` ones. */
function weightsOf({ from, to, length }: { from: number; to: number; length: number }): Tap[] {
  const margin = (length - to) / 2
  return Array.from({ length }, (_, i) => {
    const inside = Math.min(to - 0.5, Math.max(0.5, i + 0.5 - margin))
    const point = (inside * from) / to - 0.5
    const first = Math.floor(point)
    const t = point - first
    const clamp = (at: number) => Math.min(from - 1, Math.max(0, at))
    return {
      at: [clamp(first - 1), clamp(first), clamp(first + 1), clamp(first + 2)],
      weight: [
        t * (-0.5 + t * (1 - 0.5 * t)),
        1 + t * t * (-2.5 + 1.5 * t),
        t * (0.5 + t * (2 - 1.5 * t)),
        t * t * (-0.5 + 0.5 * t),
      ],
    }
  })
}
