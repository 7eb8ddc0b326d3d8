/** A runtime that is broken, or that somebody else took over: what it can make this server do, say and keep. */
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { encodePng } from '../png.ts'
import { createEventStreamReader } from './event-stream.ts'
import { createKServeRuntime } from './kserve.ts'
import { createOpenAIRuntime } from './openai.ts'
import { createPictureReader } from './picture-reader.ts'
import type { Runtime } from './runtime.ts'

const REQUEST = { prompt: 'a fox', width: 64, height: 64, num_inference_steps: 3, seed: 7 }
const never = new AbortController().signal

const png = Buffer.from(
  await encodePng({ width: 64, height: 64, channels: 3, pixels: new Uint8Array(64 * 64 * 3) }),
)
/** The picture with other bytes in its IHDR: width from 16, height from 20, then depth, colour type, three methods. */
const changed = (at: number, ...bytes: number[]) => {
  const copy = Buffer.from(png)
  copy.set(bytes, at)
  return copy
}

let answer: (response: ServerResponse) => unknown
let kserve: Runtime
let openai: Runtime
const server = createServer((request, response) => request.resume().on('end', () => answer(response)))
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  kserve = createKServeRuntime({ url, model: 'model' })
  openai = createOpenAIRuntime({ url, model: 'model' })
})
afterAll(async () => {
  server.closeAllConnections()
  server.close()
  await Promise.all([kserve.close(), openai.close()])
})

const json = (body: unknown, status = 200) => {
  answer = (response) =>
    response
      .writeHead(status, { 'content-type': 'application/json' })
      .end(typeof body === 'string' ? body : JSON.stringify(body))
}
const prediction = (picture: Buffer, fields: Record<string, unknown> = {}) => ({
  predictions: [{ image: { b64: picture.toString('base64') }, ...fields }],
})
const stream = (text: string) => {
  answer = (response) => response.writeHead(200, { 'content-type': 'text/event-stream' }).end(text)
}
const generate = (request = REQUEST, runtime = kserve) => runtime.generate(request, { signal: never })
const wrong = (what: RegExp) =>
  expect.objectContaining({ code: 'runtime_failed', message: expect.stringMatching(what) })

describe('a picture', () => {
  test.each<[string, Buffer, RegExp]>([
    ['of 2147483647 x 2147483647', changed(16, 127, 255, 255, 255, 127, 255, 255, 255), /2147483647x2147/],
    ['of 32768 x 32768', changed(16, 0, 0, 128, 0, 0, 0, 128, 0), /32768x32768 pixels instead of 64x64/],
    ['that is wider than asked', changed(16, 0, 0, 0, 72), /72x64 pixels instead of 64x64/],
    ['of a colour type that does not exist', changed(25, 5), /colour type 5/],
    ['of a depth that its colour type has not', changed(24, 4), /colour type 2 with 4 bits/],
    ['of an unknown compression', changed(26, 1), /method/],
    ['of an unknown interlace method', changed(28, 2), /method/],
  ])('%s is refused with a sentence, by every client', async (_, picture, what) => {
    json(prediction(picture))
    await expect(generate()).rejects.toEqual(wrong(what))
    json({ data: [{ b64_json: picture.toString('base64') }] })
    await expect(generate(REQUEST, openai)).rejects.toEqual(wrong(what))
  })

  test('of a size that nobody may ask for is refused where none was asked for', async () => {
    json(prediction(changed(16, 0, 0, 8, 8)))
    const { width: _, height: __, ...anySize } = REQUEST
    await expect(generate(anySize as never)).rejects.toEqual(
      wrong(/2056x64 pixels instead of at most 2048x2048/),
    )
  })
})

describe('what stands beside the picture', () => {
  test.each<[string, Record<string, unknown>, RegExp]>([
    ['half a seed', { seed: 1.5 }, /the seed must be a whole number from 0 to 4294967295/],
    ['a negative seed', { seed: -1 }, /the seed/],
    ['a seed out of range', { seed: 2 ** 32 }, /the seed/],
    [
      'endless steps',
      { num_inference_steps: 1e300 },
      /the number of steps must be a whole number from 1 to 1000/,
    ],
    ['negative steps', { num_inference_steps: -5 }, /the number of steps/],
    ['a negative time', { inference_ms: -1 }, /the time/],
    ['a time beyond a day', { inference_ms: 1e12 }, /the time/],
    ['a name that is no text', { model_name: { a: 1 } }, /model_name must be text/],
  ])('%s is refused with a sentence', async (_, fields, what) => {
    json(prediction(png, fields))
    await expect(generate()).rejects.toEqual(wrong(what))
  })

  test('an infinite time is refused, in milliseconds and in seconds', async () => {
    json(JSON.stringify(prediction(png, { inference_ms: 0 })).replace(':0', ':1e999'))
    await expect(generate()).rejects.toEqual(wrong(/the time/))
    json(
      JSON.stringify({ data: [{ b64_json: png.toString('base64') }], inference_time_s: 0 }).replace(
        ':0',
        ':1e999',
      ),
    )
    await expect(generate(REQUEST, openai)).rejects.toEqual(wrong(/the time/))
  })

  test('a long name is cut, and one of control characters is replaced', async () => {
    json(prediction(png, { model_name: 'x'.repeat(100_000) }))
    expect((await generate()).model).toHaveLength(200)
    json(prediction(png, { model_name: '\u009b\u0007' }))
    expect((await generate()).model).toBe('model')
  })
})

describe('an event stream', () => {
  const bounded = (text: string) => {
    let events = 0
    const reader = createEventStreamReader({ onEvent: () => (events += 1) })
    const piece = Buffer.from(text.repeat(Math.ceil(65_536 / text.length)))
    // 64 MiB, as much as one answer may have.
    for (let n = 0; n < 1024; n += 1) reader.feed(piece)
    return events
  }
  test.each(['\n', ':\n', '\r', 'data\n', 'data:a\n\n'])('of %j without end is ended', (text) => {
    expect(() => bounded(text)).toThrow(/more than 100000 lines/)
  })

  test('without end is a failure that says so', async () => {
    stream(':\n'.repeat(200_000))
    await expect(generate()).rejects.toEqual(wrong(/more than 100000 lines/))
  })

  test('with an event of megabytes is refused', async () => {
    stream(`event: error\ndata: ${JSON.stringify({ error: 'x'.repeat(2 ** 21) })}\n\n`)
    await expect(generate()).rejects.toEqual(wrong(/an event has more than 65536 bytes/))
  })

  test.each(['{"step":1e300,"steps":3}', '{"step":-1,"steps":3}', '{"step":1,"steps":1.5}'])(
    'with progress %s is refused',
    async (data) => {
      stream(`event: progress\ndata: ${data}\n\n`)
      const failed = kserve.generate(REQUEST, { signal: never, onProgress: () => {} })
      await expect(failed).rejects.toEqual(wrong(/the number of steps/))
    },
  )
})

describe('an answer in tiny pieces', () => {
  test('costs no more than its bytes', () => {
    // A megabyte before the picture, byte by byte: joining or searching it all at each byte would take hours.
    const reader = createPictureReader({ key: 'b64' })
    const text = Buffer.from(
      JSON.stringify({ prompt: 'a'.repeat(2 ** 20 - 100), image: { b64: png.toString('base64') } }),
    )
    for (let at = 0; at < text.length; at += 1) reader.feed(text.subarray(at, at + 1))
    expect(Buffer.compare(reader.end().png, png)).toBe(0)
  })

  test('is ended when it goes on', async () => {
    answer = (response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'transfer-encoding': 'chunked' })
      response.flushHeaders()
      response.socket?.write('1\r\n \r\n'.repeat(250_000))
    }
    await expect(generate()).rejects.toEqual(wrong(/more than 200000 pieces/))
  })

  test('may not go on behind the picture', async () => {
    json(JSON.stringify(prediction(png)) + ' '.repeat(2 ** 21))
    await expect(generate()).rejects.toEqual(wrong(/no picture in it that can be read/))
  })
})

test('the reason of a refusal is told without places and secrets; the log keeps the places', async () => {
  const reason =
    'bad prompt: http://internal-host:9000/secret?token=abc failed at db.internal:5432 (10.0.0.7), /srv/app/main.py, ' +
    'Bearer abcdef123456, password=hunter2\u009b31m\u0000 num_inference_steps: got 200'
  json({ error: reason }, 422)
  const refused = await generate().catch((error) => error)
  expect(refused).toMatchObject({ code: 'invalid_request' })
  expect(refused.message).toContain('bad prompt: [address] failed at [address] ([address]), [path]')
  expect(refused.message).toContain('num_inference_steps: got 200')
  expect(refused.message).not.toMatch(/internal|9000|5432|abc|hunter2|main\.py|\p{Cc}/u)
  expect(refused.cause.message).toContain('db.internal:5432')
  expect(refused.cause.message).not.toMatch(/abcdef123456|hunter2|\p{Cc}/u)
})
