import sharp from 'sharp'
import { describe, expect, test } from 'vitest'
import { encodePng, isPng, pngChunk, pngSize } from './png.ts'

const pixels = (width: number, height: number, channels: 3 | 4) =>
  Uint8Array.from({ length: width * height * channels }, (_, i) => (i * i) % 251)

describe('encodePng', () => {
  test.each<[number, number, 3 | 4]>([
    [1, 1, 3],
    [7, 5, 3],
    [7, 5, 4],
    // Longer than one slice.
    [600, 400, 3],
  ])('%i x %i with %i channels comes back as it was', async (width, height, channels) => {
    const original = pixels(width, height, channels)
    const png = await encodePng({ width, height, channels, pixels: original })
    expect(pngSize(png)).toEqual({ width, height })
    const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true })
    expect(info).toMatchObject({ width, height, channels })
    expect(data.equals(original)).toBe(true)
  })

  test('padding makes it heavier and changes no pixel', async () => {
    const original = pixels(8, 8, 3)
    const png = await encodePng({
      width: 8,
      height: 8,
      channels: 3,
      pixels: original,
      padding: new Uint8Array(5000),
    })
    expect(png.length).toBeGreaterThan(5000)
    expect((await sharp(png).raw().toBuffer()).equals(original)).toBe(true)
  })

  test('refuses pixels that are too few or too many', async () => {
    await expect(encodePng({ width: 8, height: 8, channels: 4, pixels: pixels(8, 8, 3) })).rejects.toThrow(
      '8x8',
    )
  })
})

describe('pngSize', async () => {
  const png = Buffer.from(await encodePng({ width: 16, height: 8, channels: 3, pixels: pixels(16, 8, 3) }))
  const changed = (at: number, byte: number) => {
    const copy = Buffer.from(png)
    copy[at] = byte
    return copy
  }

  test('reads a PNG that lies within a larger buffer', () => {
    const larger = Buffer.concat([Buffer.alloc(3), png, Buffer.alloc(3)])
    expect(pngSize(larger.subarray(3, 3 + png.length))).toEqual({ width: 16, height: 8 })
  })

  test('wants the end, where isPng looks at the beginning only', () => {
    const cut = png.subarray(0, 33)
    expect(isPng(cut)).toBe(true)
    expect(() => pngSize(cut)).toThrow(/truncated/)
  })

  test.each<[string, Buffer, RegExp]>([
    ['nothing', Buffer.alloc(0), /signature/],
    ['another kind of picture', Buffer.from('GIF89a and then some more'), /signature/],
    ['the signature alone', png.subarray(0, 8), /IHDR/],
    ['another first chunk', changed(12, 0x4a), /IHDR/],
    ['a truncated PNG', png.subarray(0, -1), /truncated/],
    ['a width of 0', changed(19, 0), /0x8/],
    ['a height of 0', changed(23, 0), /16x0/],
  ])('refuses %s', (_, bytes, reason) => {
    expect(() => pngSize(bytes)).toThrow(reason)
  })
})

test('a chunk has its length, its type, its data and a CRC of the two', () => {
  // As every PNG ends.
  expect(Buffer.concat(pngChunk('IEND', new Uint8Array())).toString('hex')).toBe('0000000049454e44ae426082')
  // The chunk of https://www.w3.org/TR/png-3/#11gAMA for a gamma of 1/2.2, as encoders write it.
  const gamma = Buffer.concat(pngChunk('gAMA', Buffer.from([0, 0, 0xb1, 0x8f])))
  expect(gamma.toString('hex')).toBe('0000000467414d410000b18f0bfc6105')
})
