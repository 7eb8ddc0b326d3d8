/** Retries under an idempotency key: one picture. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Connect, drawn, HTTP_CLIENTS } from '../../support/clients.ts'
import { type Running, startServer } from '../../support/process.ts'
import { TINY } from '../../support/requests.ts'
import { PATIENT, type Suite } from './server.ts'

export function once(suite: Suite): void {
  const { engine, slowIsIdle } = suite
  describe('once', () => {
    const token = 'a-token-for-one-caller-who-retries'
    const authorization = `Bearer ${token}`
    let server: Running
    beforeAll(async () => {
      server = await startServer(engine, { ...suite.env, MCP_AUTH_TOKEN: token })
    })
    afterAll(() => server?.stop())
    const post = (path: string, body: unknown, headers: Record<string, string>) =>
      fetch(server.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization, ...headers },
        body: JSON.stringify(body),
      })
    const key = () => ({ ...PATIENT, 'idempotency-key': crypto.randomUUID() })

    test('the same key 50 times in parallel: one picture, 50 equal answers', async () => {
      const headers = key()
      const answers = await Promise.all(Array.from({ length: 50 }, () => post('/api/images', TINY, headers)))
      const bodies = await Promise.all(
        answers.map((answer) => answer.json() as Promise<{ image_id: string }>),
      )
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
      expect(new Set(bodies.map(({ image_id }) => image_id)).size).toBe(1)
    })

    test('another request under the same key is a conflict, and a bad key is refused', async () => {
      const headers = key()
      await post('/api/images', TINY, headers)
      const conflict = await post('/api/images', { ...TINY, width: 128 }, headers)
      expect(conflict.status).toBe(409)
      expect(await conflict.json()).toMatchObject({ code: 'conflict' })
      const metrics = await (await fetch(`${server.url}/metrics`)).text()
      expect(metrics).toMatch(/diffusers_mcp_jobs_refused_total\{target="quick",reason="conflict"\} 1/)
      expect((await post('/api/images', TINY, { 'idempotency-key': 'two words' })).status).toBe(400)
    })

    test('retries of accepted work are never refused, however full the queue', async () => {
      const headers = { ...key(), prefer: 'respond-async' }
      const body = { ...TINY, model: 'slow', num_inference_steps: 200 }
      const first = await post('/api/images', body, headers)
      const others = await Promise.all(
        [1, 2, 3, 4].map(() => post('/api/images', body, { prefer: 'respond-async' })),
      )
      expect(others.map(({ status }) => status)).toContain(503)
      const retry = await post('/api/images', body, headers)
      expect(retry.headers.get('location')).toBe(first.headers.get('location'))
      for (const { headers: answered } of [first, ...others.filter(({ status }) => status === 202)])
        await fetch(new URL(answered.get('location') as string, server.url), {
          method: 'DELETE',
          headers: { authorization },
        })
      await slowIsIdle()
    })

    test('MCP and REST share keys', async () => {
      const { 'idempotency-key': idempotencyKey } = key()
      const client = await (HTTP_CLIENTS['current SDK, 2026-07-28'] as Connect)({
        url: server.url,
        token,
        env: suite.env,
      })
      const made = await drawn(client, {
        name: 'generate_image',
        arguments: TINY,
        _meta: { 'io.github.diffusers-mcp/idempotencyKey': idempotencyKey },
      })
      const again = await post('/api/images', TINY, { ...PATIENT, 'idempotency-key': idempotencyKey })
      expect(await again.json()).toMatchObject({ image_id: made.structuredContent?.image_id })
      await client.close()
    })
  })
}
