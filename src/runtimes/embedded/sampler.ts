/** DDIM for a model that predicts v, with time steps counted from the end, as in diffusers' scheduler. */
import { createHash } from 'node:crypto'

/** Standard normal numbers from a seed (SHAKE256, Box and Muller): the same on every machine that runs V8. */
export function seededNoise(seed: number, length: number): Float32Array {
  const pairs = Math.ceil(length / 2)
  const bytes = createHash('shake256', { outputLength: pairs * 8 })
    .update(String(seed))
    .digest()
  const noise = new Float32Array(pairs * 2)
  for (let i = 0; i < pairs; i += 1) {
    // Never 0, which has no logarithm.
    const radius = Math.sqrt(-2 * Math.log((bytes.readUInt32LE(i * 8) + 1) / 2 ** 32))
    const angle = 2 * Math.PI * (bytes.readUInt32LE(i * 8 + 4) / 2 ** 32)
    noise[2 * i] = radius * Math.cos(angle)
    noise[2 * i + 1] = radius * Math.sin(angle)
  }
  return noise.subarray(0, length)
}

export interface SampleOptions {
  /** The share of the picture's variance that is left after each step of the noise. */
  readonly alphasCumulative: readonly number[]
  readonly steps: number
  readonly noise: Float32Array
  /** The model's guess of v for latents at a time. */
  readonly predict: (latents: Float32Array, time: number) => Promise<Float32Array>
  /** Called after each step; throwing ends the sampling. */
  readonly onStep: (step: number) => Promise<void>
}

/** Latents without noise. */
export async function sample({ alphasCumulative, steps, noise, predict, onStep }: SampleOptions) {
  const times = timeSteps(alphasCumulative.length, steps)
  let latents = noise
  for (const [index, time] of times.entries()) {
    const alpha = alphasCumulative[time] as number
    const previous = time - Math.floor(alphasCumulative.length / steps)
    const nextAlpha = previous >= 0 ? (alphasCumulative[previous] as number) : 1
    const [signal, spread] = [Math.sqrt(alpha), Math.sqrt(1 - alpha)]
    const [nextSignal, nextSpread] = [Math.sqrt(nextAlpha), Math.sqrt(1 - nextAlpha)]
    const velocity = await predict(latents, time)
    latents = latents.map((x, i) => {
      const v = velocity[i] as number
      return nextSignal * (signal * x - spread * v) + nextSpread * (signal * v + spread * x)
    })
    await onStep(index + 1)
  }
  return latents
}

/** From the noisiest time to the least noisy one ("trailing"). */
export function timeSteps(trained: number, steps: number): number[] {
  return Array.from({ length: steps }, (_, i) => Math.round(trained - (i * trained) / steps) - 1)
}
