/** Input that no route accepts: each refusal says why. */
import { request as httpRequest } from 'node:http'
import { describe, expect, test } from 'vitest'
import { TINY } from '../../support/requests.ts'
import { PATIENT, type Suite } from './server.ts'

export function badInput(suite: Suite): void {
  const { post } = suite
  describe('bad input over HTTP', () => {
    const problem = async (response: Response) => (await response.json()) as { code: string; detail: string }

    test.each([
      ['malformed JSON', '{"prompt": ', {}, 400, 'invalid_request', /not valid JSON/],
      ['NaN', '{"prompt":"a","guidance_scale":NaN}', {}, 400, 'invalid_request', /not valid JSON/],
      ['an array', '[]', {}, 400, 'invalid_request', /object/],
      ['nested brackets', `{"prompt":${'['.repeat(20_000)}`, {}, 400, 'invalid_request', /deeper than/],
      ['a body over the limit', `{"prompt":"${'x'.repeat(70_000)}"}`, {}, 413, 'too_large', /MAX_BODY_BYTES/],
      [
        'another content type',
        'prompt=a',
        { 'content-type': 'text/plain' },
        415,
        'unsupported_media_type',
        /application\/json/,
      ],
      [
        'a foreign Origin',
        '{"prompt":"a"}',
        { origin: 'https://evil.example' },
        403,
        'forbidden',
        /ALLOWED_ORIGINS/,
      ],
      [
        'a wait that is no number',
        '{"prompt":"a"}',
        { prefer: 'wait=soon' },
        400,
        'invalid_request',
        /Prefer: wait/,
      ],
      [
        'a time-out that is no number',
        '{"prompt":"a"}',
        { 'x-request-timeout': '1e9' },
        400,
        'invalid_request',
        /X-Request-Timeout/,
      ],
    ])('%s', async (_, body, headers, status, code, detail) => {
      const response = await post('/api/images', body, headers as Record<string, string>)
      expect(response.status).toBe(status)
      expect(response.headers.get('content-type')).toBe('application/problem+json')
      const answer = await problem(response)
      expect(answer.code).toBe(code)
      expect(answer.detail).toMatch(detail)
    })

    test('a foreign Host is refused (DNS rebinding)', async () => {
      const status = await new Promise((resolve, reject) => {
        httpRequest(`${suite.server.url}/api/queue`, { headers: { host: 'evil.example' } }, (response) => {
          response.resume()
          resolve(response.statusCode)
        })
          .on('error', reject)
          .end()
      })
      expect(status).toBe(403)
    })

    test('a streamed body over the limit is refused too', async () => {
      const chunk = new TextEncoder().encode(' '.repeat(16_384))
      let sent = 0
      const body = new ReadableStream<Uint8Array>({
        pull(controller) {
          sent += 1
          if (sent > 64) controller.close()
          else controller.enqueue(chunk)
        },
      })
      const response = await fetch(`${suite.server.url}/api/images`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
        duplex: 'half',
      } as RequestInit).catch((error) => error)
      if (response instanceof Response) expect(response.status).toBe(413)
      expect((await post('/api/images', TINY, PATIENT)).status).toBe(200)
    })

    test('unknown paths and methods say what is there', async () => {
      expect((await fetch(`${suite.server.url}/nothing`)).status).toBe(404)
      const wrong = await fetch(`${suite.server.url}/api/images`, { method: 'DELETE' })
      expect(wrong.status).toBe(405)
      expect(wrong.headers.get('allow')).toBe('POST')
      expect((await fetch(`${suite.server.url}/mcp`)).status).toBe(405)
    })

    test('/mcp refuses batches, bombs and big bodies as JSON-RPC errors', async () => {
      const call = { jsonrpc: '2.0', id: 1, method: 'tools/list' }
      const accept = { accept: 'application/json, text/event-stream' }
      const batch = await post('/mcp', [call, call], accept)
      expect(batch.status).toBe(400)
      expect(await batch.json()).toMatchObject({
        jsonrpc: '2.0',
        error: { message: expect.stringContaining('batches') },
      })
      expect((await post('/mcp', '['.repeat(60_000), accept)).status).toBe(400)
      expect((await post('/mcp', { ...call, pad: 'x'.repeat(70_000) }, accept)).status).toBe(413)
      expect((await post('/mcp', call, { ...accept, 'content-type': 'text/plain' })).status).toBe(415)
    })
  })
}
