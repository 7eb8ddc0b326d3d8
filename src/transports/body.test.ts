import { describe, expect, test } from 'vitest'
import { readJson } from './body.ts'

const request = (body: BodyInit, headers: Record<string, string> = { 'content-type': 'application/json' }) =>
  new Request('http://host/', { method: 'POST', body, headers, duplex: 'half' } as RequestInit)
const streamOf = (text: string) =>
  new ReadableStream({
    start(controller) {
      for (const char of text) controller.enqueue(new TextEncoder().encode(char))
      controller.close()
    },
  })
const LIMIT = { maxBytes: 100 }

describe('readJson', () => {
  test('reads JSON, with parameters in the content type, whole or in pieces', async () => {
    expect(await readJson(request('{"a":1}'), LIMIT)).toEqual({ a: 1 })
    expect(
      await readJson(request('{"a":1}', { 'content-type': 'application/json; charset=utf-8' }), LIMIT),
    ).toEqual({ a: 1 })
    expect(await readJson(request(streamOf('{"ü":"\\"["}')), LIMIT)).toEqual({ ü: '"[' })
  })

  test.each([
    ['no JSON', '{', 'invalid_request'],
    ['nothing', '', 'invalid_request'],
    ['33 levels', '['.repeat(33) + ']'.repeat(33), 'invalid_request'],
    ['101 bytes', ' '.repeat(101), 'too_large'],
  ])('refuses %s', async (_, body, code) => {
    await expect(readJson(request(body), LIMIT)).rejects.toMatchObject({ code })
    await expect(readJson(request(streamOf(body)), LIMIT)).rejects.toMatchObject({ code })
  })

  test('32 levels pass, and brackets in strings do not count', async () => {
    const nested = '['.repeat(32) + ']'.repeat(32)
    expect(JSON.stringify(await readJson(request(nested), LIMIT))).toBe(nested)
    expect(await readJson(request(`["${'['.repeat(50)}\\"["]`), LIMIT)).toHaveLength(1)
  })

  test('refuses a declared length over the limit without reading', async () => {
    const declared = request(streamOf('{}'), { 'content-type': 'application/json', 'content-length': '101' })
    await expect(readJson(declared, LIMIT)).rejects.toMatchObject({ code: 'too_large' })
    expect(declared.bodyUsed).toBe(false)
  })

  test.each([['text/plain'], ['application/jsonp'], ['']])('refuses the content type %j', async (type) => {
    await expect(readJson(request('{}', { 'content-type': type }), LIMIT)).rejects.toMatchObject({
      code: 'unsupported_media_type',
    })
  })
})
