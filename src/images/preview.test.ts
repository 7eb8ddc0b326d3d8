import sharp from 'sharp'
import { beforeAll, describe, expect, it } from 'vitest'
import { makePng } from '../../test/support/pictures.ts'
import { makePreview } from './preview.ts'

const KIB = 1024

describe('a preview', () => {
  let noise: Buffer

  beforeAll(async () => {
    noise = await makePng({ width: 512, height: 384, noise: true })
  })

  it('is a WebP with the longest side at most 1024, in the same proportions', async () => {
    const preview = await makePreview(await makePng({ width: 2048, height: 1024 }), { maxBytes: 700 * KIB })
    expect(preview).toMatchObject({ media_type: 'image/webp', width: 1024, height: 512 })
    expect(await sharp(preview.bytes).metadata()).toMatchObject({ format: 'webp', width: 1024, height: 512 })
  })

  it('is tall for a tall picture', async () => {
    const preview = await makePreview(await makePng({ width: 64, height: 2048 }), {
      maxSide: 256,
      maxBytes: KIB,
    })
    expect(preview).toMatchObject({ width: 8, height: 256 })
  })

  it('never enlarges', async () => {
    const preview = await makePreview(await makePng({ width: 64, height: 72 }), { maxBytes: 700 * KIB })
    expect(preview).toMatchObject({ width: 64, height: 72 })
  })

  it('shows the colours of the picture', async () => {
    const { bytes } = await makePreview(await makePng({ width: 64, height: 64 }), { maxBytes: 700 * KIB })
    const [red, green, blue] = (await sharp(bytes).stats()).channels.map(({ mean }) => mean)
    expect(Math.abs(red! - 0x3b)).toBeLessThan(4)
    expect(Math.abs(green! - 0x82)).toBeLessThan(4)
    expect(Math.abs(blue! - 0xf6)).toBeLessThan(4)
  })

  it('keeps transparency', async () => {
    const png = await sharp({ create: { width: 64, height: 64, channels: 4, background: '#ff000080' } })
      .png()
      .toBuffer()
    const { bytes } = await makePreview(png, { maxBytes: 700 * KIB })
    const { channels } = await sharp(bytes).stats()
    expect(channels).toHaveLength(4)
    expect(Math.abs(channels[3]!.mean - 128)).toBeLessThan(4)
  })

  it('lowers the quality, not the size, until it fits', async () => {
    const free = await makePreview(noise, { maxBytes: 700 * KIB })
    const bound = await makePreview(noise, { maxBytes: Math.floor(free.bytes.byteLength / 2) })
    expect(bound.bytes.byteLength).toBeLessThanOrEqual(free.bytes.byteLength / 2)
    expect(bound).toMatchObject({ width: 512, height: 384 })
  })

  it('becomes smaller when the lowest quality does not fit', async () => {
    const preview = await makePreview(noise, { maxBytes: 8 * KIB })
    expect(preview.bytes.byteLength).toBeLessThanOrEqual(8 * KIB)
    expect(preview.width).toBeLessThan(512)
    expect(preview.width / preview.height).toBeCloseTo(512 / 384, 1)
  })

  it('says so when nothing fits', async () => {
    await expect(makePreview(noise, { maxBytes: 10 })).rejects.toMatchObject({ code: 'too_large' })
  })

  it('takes the largest picture of the vocabulary', async () => {
    const preview = await makePreview(await makePng({ width: 2048, height: 2048 }), { maxBytes: 700 * KIB })
    expect(preview.width).toBe(1024)
  })

  it('refuses a larger one before decoding it', async () => {
    const bomb = await makePng({ width: 2048, height: 2049 })
    await expect(makePreview(bomb, { maxBytes: 700 * KIB })).rejects.toMatchObject({ code: 'runtime_failed' })
  })

  it.each([
    ['nothing', async () => Buffer.alloc(0)],
    ['a cut PNG', async () => noise.subarray(0, 100_000)],
    [
      'an SVG, which a decoder would happily render',
      async () => Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>`),
    ],
    ['a JPEG', () => sharp(noise).jpeg().toBuffer()],
  ])('refuses %s', async (_, make) => {
    await expect(makePreview(await make(), { maxBytes: 700 * KIB })).rejects.toMatchObject({
      code: 'runtime_failed',
    })
  })

  it('comes for each of many asked for at once, failures between them included', async () => {
    const good = await makePng({ width: 256, height: 256 })
    const bad = good.subarray(0, 60)
    const asked = [good, bad, good, bad, good, good].map((png) => makePreview(png, { maxBytes: 700 * KIB }))
    const states = (await Promise.allSettled(asked)).map(({ status }) => status)
    expect(states).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled', 'fulfilled'])
  })
})
