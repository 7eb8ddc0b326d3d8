/** A server with a token, whose callers may leave and come back. */
import { request as httpRequest } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startHeldRuntime } from '../../fakes/held-runtime.ts'
import { drawn, HTTP_CLIENTS } from '../../support/clients.ts'
import { eventually } from '../../support/eventually.ts'
import { type Running, startServer } from '../../support/process.ts'
import { TINY } from '../../support/requests.ts'
import { PATIENT, type Suite } from './server.ts'

export function withToken(suite: Suite): void {
  const { engine, slowStats, slowIsIdle } = suite
  describe('with a token', () => {
    const token = 'a-token-for-the-contract-suite'
    let guarded: Running
    beforeAll(async () => {
      guarded = await startServer(engine, { ...suite.env, MCP_AUTH_TOKEN: token, ORPHAN_GRACE_MS: '1000' })
    })
    afterAll(() => guarded?.stop())

    test('calls need it, probes do not', async () => {
      expect((await fetch(`${guarded.url}/health`)).status).toBe(200)
      for (const authorization of [
        '',
        'Bearer wrong-token-of-some-length',
        `Basic ${token}`,
        `Bearer ${token} x`,
      ]) {
        const response = await fetch(`${guarded.url}/api/queue`, {
          headers: authorization ? { authorization } : {},
        })
        expect(response.status).toBe(401)
        expect(response.headers.get('www-authenticate')).toMatch(/^Bearer/)
      }
      const ok = await fetch(`${guarded.url}/api/queue`, { headers: { authorization: `Bearer ${token}` } })
      expect(ok.status).toBe(200)
    })

    test('a caller that comes back within the grace finds its picture still being made', async () => {
      const runtime = await startHeldRuntime()
      const patient = await startServer(engine, {
        ...suite.env,
        MCP_AUTH_TOKEN: token,
        ORPHAN_GRACE_MS: '600000',
        RUNTIMES: JSON.stringify([{ name: 'held', kind: 'kserve', url: runtime.url, concurrency: 2 }]),
      })
      const body = JSON.stringify(TINY)
      const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` }
      const { port } = new URL(patient.url)
      const request = httpRequest({ port, path: '/api/images', method: 'POST', headers })
      request.on('error', () => {})
      request.end(body)
      await eventually(() => expect(runtime.stats.running).toBe(1))
      // The server closes its side when it has seen that the caller left. Until then somebody waits for that job, and
      // only a key would join it.
      const gone = new Promise((resolve) => request.socket?.on('close', resolve))
      request.socket?.end()
      await gone
      await sleep(300)
      // The stream begins when it has joined.
      const again = await fetch(`${patient.url}/api/images`, {
        method: 'POST',
        headers: { ...headers, accept: 'text/event-stream' },
        body,
      })
      runtime.release()
      expect(await again.text()).toMatch(/event: result\ndata: .*"state":"succeeded"/)
      expect(runtime.stats).toMatchObject({ started: 1, aborted: 0 })
      await patient.stop()
      await runtime.stop()
    })

    test('one that does not come back frees the runtime within the grace and a step', async () => {
      const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}`, ...PATIENT }
      const body = JSON.stringify({ ...TINY, model: 'slow', num_inference_steps: 200 })
      await slowIsIdle()
      const before = await slowStats()
      const abort = new AbortController()
      const call = fetch(`${guarded.url}/api/images`, { method: 'POST', headers, body, signal: abort.signal })
      call.catch(() => {})
      await eventually(async () => expect((await slowStats()).running).toBe(1))
      abort.abort()
      await slowIsIdle()
      expect((await slowStats()).aborted).toBe(before.aborted + 1)
    })

    test.each(Object.entries(HTTP_CLIENTS))(
      '%s generates and lists its pictures; the link needs no token',
      async (_, connect) => {
        const client = await connect({ url: guarded.url, token, env: suite.env })
        const made = await drawn(client, { name: 'generate_image', arguments: TINY })
        const listed = await client.callTool({ name: 'list_images', arguments: { limit: 1 } })
        expect(listed.structuredContent?.images).toMatchObject([
          { image_id: made.structuredContent?.image_id },
        ])
        expect((await fetch(made.structuredContent?.url as string)).status).toBe(200)
        expect((await fetch(`${guarded.url}/images/${made.structuredContent?.image_id}`)).status).toBe(401)
        await client.close()
      },
    )
  })
}
