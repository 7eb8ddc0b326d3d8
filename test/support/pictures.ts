/** Real pictures and plausible records for tests. */
import { randomBytes } from 'node:crypto'
import sharp from 'sharp'
import type { ImageRecord, StoredImage } from '../../src/images/image.ts'

/** Noon of the tests' clock, in milliseconds since 1970. */
export const NOON = Date.parse('2026-03-01T12:00:00.000Z')
export const HOUR_MS = 3_600_000

/** A PNG by sharp: one colour, or noise, which does not compress: about three bytes per pixel. */
export function makePng(options: { width: number; height: number; noise?: boolean }): Promise<Buffer> {
  const { width, height, noise = false } = options
  if (noise)
    return sharp(randomBytes(width * height * 3), { raw: { width, height, channels: 3 } })
      .png()
      .toBuffer()
  return sharp({ create: { width, height, channels: 3, background: '#3b82f6' } })
    .png()
    .toBuffer()
}

/** A picture made at noon that expires an hour later, with a record that fits it. */
export function makeImage(png: Uint8Array, record: Partial<ImageRecord> = {}): StoredImage {
  return {
    png,
    record: {
      id: 'picture-1',
      job_id: 'job-1',
      owner: 'https://issuer.example|ann',
      media_type: 'image/png',
      bytes: png.byteLength,
      width: 64,
      height: 64,
      prompt: 'a red fox, “ink” 狐 🦊',
      seed: 4_294_967_295,
      num_inference_steps: 25,
      guidance_scale: 7.5,
      model: 'segmind/tiny-sd',
      target: 'tiny-sd',
      inference_ms: 1234.5,
      created_at: new Date(NOON).toISOString(),
      expires_at: new Date(NOON + HOUR_MS).toISOString(),
      ...record,
    },
  }
}
