import { crc32 } from 'node:zlib'
import sharp from 'sharp'
import { beforeAll, describe, expect, it } from 'vitest'
import packageJson from '../../package.json' with { type: 'json' }
import { makeImage, makePng } from '../../test/support/pictures.ts'
import { chunksOf, readProvenance } from '../../test/support/png-chunks.ts'
import { addProvenance } from './provenance.ts'

/** Signature and IHDR chunk. */
const HEAD = 33

describe('provenance', () => {
  let png: Buffer
  let marked: Uint8Array
  const { record } = makeImage(Buffer.alloc(0), { id: 'image-7', job_id: 'job-7', negative_prompt: 'blurry' })

  beforeAll(async () => {
    png = await makePng({ width: 64, height: 48, noise: true })
    marked = addProvenance(png, record)
  })

  it('tells how the picture was made, in any script', () => {
    expect(readProvenance(marked)).toEqual({
      software: `diffusers-mcp/${packageJson.version}`,
      prompt: 'a red fox, “ink” 狐 🦊',
      negative_prompt: 'blurry',
      seed: 4_294_967_295,
      num_inference_steps: 25,
      guidance_scale: 7.5,
      width: 64,
      height: 64,
      model: 'segmind/tiny-sd',
      target: 'tiny-sd',
    })
  })

  it('never tells whose it is, nor anything that differs between two runs of one request', () => {
    expect(Buffer.from(marked).includes('issuer.example')).toBe(false)
    const rerun = {
      ...record,
      id: 'image-8',
      job_id: 'job-8',
      created_at: '2027-01-01T00:00:00.000Z',
      inference_ms: 1,
    }
    expect(addProvenance(png, rerun)).toEqual(marked)
  })

  it('leaves out what is not known', () => {
    const { negative_prompt: _, num_inference_steps: __, guidance_scale: ___, ...known } = record
    const told = readProvenance(addProvenance(png, known))
    expect(Object.keys(told!)).not.toEqual(
      expect.arrayContaining(['negative_prompt', 'num_inference_steps', 'guidance_scale']),
    )
    expect(told).toMatchObject({ seed: 4_294_967_295 })
  })

  it('is one iTXt chunk right after IHDR, with its keyword, uncompressed, and a right CRC', () => {
    const [first, second, third] = [...chunksOf(marked)]
    expect([first?.type, second?.type]).toEqual(['IHDR', 'iTXt'])
    expect(third?.type).not.toBe('iTXt')
    const data = Buffer.from(second!.data)
    expect(data.subarray(0, 18).toString('latin1')).toBe('diffusers-mcp\0\0\0\0\0')
    const chunk = Buffer.from(marked).subarray(HEAD, HEAD + 12 + data.byteLength)
    expect(chunk.readUInt32BE(8 + data.byteLength)).toBe(crc32(Buffer.concat([Buffer.from('iTXt'), data])))
  })

  it('leaves every other byte as it was', () => {
    const added = marked.byteLength - png.byteLength
    const without = Buffer.concat([marked.subarray(0, HEAD), marked.subarray(HEAD + added)])
    expect(without.equals(png)).toBe(true)
  })

  it('lets decoders see the same picture, and the text under its keyword', async () => {
    const [before, after] = await Promise.all([png, marked].map((bytes) => sharp(bytes).raw().toBuffer()))
    expect(after!.equals(before!)).toBe(true)
    const { comments } = await sharp(marked).metadata()
    expect(comments).toContainEqual({
      keyword: 'diffusers-mcp',
      text: expect.stringContaining('"segmind/tiny-sd"'),
    })
  })

  it('has a buffer of its own, of its own size', () => {
    expect(marked.buffer.byteLength).toBe(marked.byteLength)
  })

  it('goes in front of the picture where there is room for it, without a copy', () => {
    const added = marked.byteLength - png.byteLength
    const roomy = Buffer.alloc(8 + added + png.byteLength, 0xff)
    roomy.set(png, 8 + added)
    const result = addProvenance(roomy.subarray(8 + added), record, { headroom: added })
    expect(Buffer.compare(result, marked)).toBe(0)
    expect(result.buffer).toBe(roomy.buffer)
    expect([...roomy.subarray(0, 8)]).toEqual(Array(8).fill(0xff))
  })

  it('copies where the room is too small by one byte', () => {
    const headroom = marked.byteLength - png.byteLength - 1
    const narrow = Buffer.alloc(headroom + png.byteLength, 0xff)
    narrow.set(png, headroom)
    const before = Buffer.from(narrow)
    expect(Buffer.compare(addProvenance(narrow.subarray(headroom), record, { headroom }), marked)).toBe(0)
    expect(narrow.equals(before)).toBe(true)
  })

  it('works on a slice of a larger buffer', () => {
    const larger = new Uint8Array(png.byteLength + 16).fill(0xff)
    larger.set(png, 7)
    expect(Buffer.compare(addProvenance(larger.subarray(7, 7 + png.byteLength), record), marked)).toBe(0)
  })

  it.each([
    ['nothing', () => Buffer.alloc(0)],
    ['a JPEG', () => Buffer.from([0xff, 0xd8, 0xff, 0xe0, ...Buffer.alloc(60)])],
    ['a cut signature', () => png.subarray(1)],
    ['a PNG cut in its first chunk', () => png.subarray(0, HEAD - 1)],
    ['another first chunk', () => Buffer.from(png).fill('X', 12, 13)],
  ])('refuses %s', (_, bytes) => {
    expect(() => addProvenance(bytes(), record)).toThrow(expect.objectContaining({ code: 'runtime_failed' }))
  })
})
