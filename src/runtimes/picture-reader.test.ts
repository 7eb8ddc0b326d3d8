import { describe, expect, test, vi } from 'vitest'
import { encodePng } from '../png.ts'
import { createPictureReader, readPictureAnswer } from './picture-reader.ts'

// Noise, so that every character of base64 occurs; longer than the slices that it is decoded in.
const pixels = Uint8Array.from({ length: 200 * 200 * 3 }, (_, i) => ((i * 2654435761) >>> 13) & 255)
const png = Buffer.from(await encodePng({ width: 200, height: 200, channels: 3, pixels }))
const b64 = png.toString('base64')
const documentWith = (text: string, prompt = 'a') => ({
  predictions: [{ prompt, image: { b64: text }, seed: 7 }],
})
/** Read from pieces of `pieceBytes`. */
const read = (json: string, { pieceBytes = 65_536 } = {}) => {
  const bytes = Buffer.from(json)
  const pieces: Buffer[] = []
  for (let at = 0; at < bytes.length; at += pieceBytes) pieces.push(bytes.subarray(at, at + pieceBytes))
  return readPictureAnswer(pieces, 'b64')
}

describe('an answer with a picture', () => {
  test.each<[string, string]>([
    ['compact JSON', JSON.stringify(documentWith(b64))],
    ['the spaces of Python', JSON.stringify(documentWith(b64)).replaceAll('":', '": ')],
    ['indented JSON', JSON.stringify(documentWith(b64), null, 2)],
    ['slashes that JSON escapes', JSON.stringify(documentWith(b64)).replaceAll('/', '\\/')],
    ['base64 in lines', JSON.stringify(documentWith(b64.replace(/.{76}/g, '$&\r\n')))],
    ['base64 without padding', JSON.stringify(documentWith(b64.replace(/=+$/, '')))],
  ])('%s', (_, json) => {
    for (const pieceBytes of [7, 64, 1001, 65_536, 10_000_000]) {
      const answer = read(json, { pieceBytes })
      expect(Buffer.compare(answer.png, png)).toBe(0)
      expect(answer).toMatchObject({ width: 200, height: 200, document: documentWith('') })
    }
  })

  test('a prompt that looks like the key does not mislead', () => {
    for (const prompt of ['"b64":"AAAA"', '{"b64": "', 'b64', '東京 "b64"']) {
      const answer = read(JSON.stringify(documentWith(b64, prompt)))
      expect(Buffer.compare(answer.png, png)).toBe(0)
      expect(answer.document).toEqual(documentWith('', prompt))
    }
  })

  test('the room in front of the picture is there, and nobody else has it', () => {
    const { png: decoded, headroom } = read(JSON.stringify(documentWith(b64)))
    expect(headroom).toBeGreaterThan(1000)
    expect(decoded.byteOffset).toBe(headroom)
    // What is behind it is as much as the JSON around it: a store need not copy the picture to let go of the rest.
    expect(decoded.buffer.byteLength - headroom - decoded.byteLength).toBeLessThan(100)
  })

  test.each([undefined, 10, 10_000_000])('whose length is said to be %s', (bytes) => {
    const reader = createPictureReader({ key: 'b64', bytes })
    const json = Buffer.from(JSON.stringify(documentWith(b64)))
    for (let at = 0; at < json.length; at += 1001) {
      const piece = Buffer.from(json.subarray(at, at + 1001))
      reader.feed(piece)
      // Whoever reads from a connection may use the same memory again.
      piece.fill(0)
    }
    expect(Buffer.compare(reader.end().png, png)).toBe(0)
  })

  test('nothing is searched for behind a megabyte', () => {
    const json = JSON.stringify(documentWith(b64, 'a'.repeat(1.2 * 2 ** 20)))
    expect(() => read(json)).toThrow(/no text under "b64"/)
  })

  test('only the little around the picture is parsed, wherever the pieces were cut', () => {
    const parse = vi.spyOn(JSON, 'parse')
    read(JSON.stringify(documentWith(b64)), { pieceBytes: 1001 })
    const parsed = parse.mock.calls.map(([json]) => json)
    parse.mockRestore()
    expect(parsed).toEqual([JSON.stringify(documentWith(''))])
  })

  test('base64 of every length', () => {
    // A PNG whose padding chunk is cut to each of the three lengths that base64 ends in.
    for (const extra of [0, 1, 2]) {
      const longer = Buffer.concat([png.subarray(0, -12), Buffer.alloc(extra), png.subarray(-12)])
      expect(Buffer.compare(read(JSON.stringify(documentWith(longer.toString('base64')))).png, longer)).toBe(
        0,
      )
    }
  })

  test.each<[string, string, RegExp]>([
    ['nothing', '', /no text under "b64"/],
    ['no key', '{"predictions":[]}', /no text under "b64"/],
    ['a key without text', '{"b64":null}', /no text under "b64"/],
    ['text without an end', '{"b64":"iVBOR', /no end/],
    ['broken JSON around it', `{"b64":"${b64}"`, /JSON/],
    ['what is no base64', '{"b64":"*** none ***"}', /signature/],
    ['a character missing in the middle', JSON.stringify(documentWith(b64.replace('A', ''))), /PNG/],
  ])('refuses %s', (_, json, reason) => {
    expect(() => read(json)).toThrow(reason)
  })
})
