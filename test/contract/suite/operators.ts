/** What operators see of a server, and how it ends. */
import { describe, expect, test } from 'vitest'
import { startHeldRuntime } from '../../fakes/held-runtime.ts'
import { eventually } from '../../support/eventually.ts'
import { startServer } from '../../support/process.ts'
import { TINY } from '../../support/requests.ts'
import type { Suite } from './server.ts'

export function operators(suite: Suite): void {
  const { engine } = suite
  describe('for operators', () => {
    test('/health answers, /ready tells each dependency, /metrics is Prometheus text', async () => {
      expect(await (await fetch(`${suite.server.url}/health`)).json()).toMatchObject({ status: 'ok' })
      // A dependency that answered late counts as down until it is asked again.
      await eventually(async () => {
        const ready = await fetch(`${suite.server.url}/ready`)
        expect(ready.status).toBe(200)
        expect(await ready.json()).toMatchObject({
          status: 'ready',
          dependencies: {
            'runtime:quick': { ok: true },
            'runtime:absent': { ok: false, message: expect.any(String) },
          },
        })
      })
      const metrics = await (await fetch(`${suite.server.url}/metrics`)).text()
      expect(metrics).toMatch(/diffusers_mcp_jobs_total\{target="quick",state="succeeded"\} \d+/)
      expect(metrics).toMatch(
        /diffusers_mcp_http_requests_total\{route="\/api\/images",method="POST",status="200"\}/,
      )
      expect(metrics).toMatch(/diffusers_mcp_jobs_refused_total\{target="slow",reason="overloaded"\} \d+/)
      expect(metrics).toMatch(/diffusers_mcp_job_estimate_seconds\{target="quick"\} (?!0$)\d/m)
      expect(metrics).toMatch(/diffusers_mcp_job_queue_seconds_count\{target="quick"\} \d+/)
      expect(metrics).toMatch(/diffusers_mcp_job_service_seconds_count\{target="quick"\} \d+/)
      expect(metrics).toMatch(/diffusers_mcp_jobs_running\{target="slow"\} 0/)
    })

    test('no prompt and no signature appears in the log', async () => {
      await eventually(() => expect(suite.server.log.length).toBeGreaterThan(20))
      const text = JSON.stringify(suite.server.log)
      expect(text).toContain('sig=[redacted]')
      expect(text).not.toContain('a lighthouse')
      expect(text).not.toMatch(/sig=(?!\[redacted\])/)
    })

    test('SIGTERM: kept connections are closed while there is still time to open others', async () => {
      // Time enough for any machine; a second SIGTERM ends it.
      const stopping = await startServer(engine, { ...suite.env, DRAIN_DELAY_MS: '600000' })
      const before = await fetch(`${stopping.url}/api/queue`)
      expect(before.headers.get('connection')).not.toBe('close')
      const code = stopping.stop()
      await eventually(async () => expect((await fetch(`${stopping.url}/ready`)).status).toBe(503))
      const after = await fetch(`${stopping.url}/api/queue`)
      expect(after.status).toBe(200)
      expect(after.headers.get('connection')).toBe('close')
      void stopping.stop()
      expect(await code).toBe(143)
    })

    test('SIGTERM: not ready, no new work, what runs is finished, exit 0', async () => {
      const runtime = await startHeldRuntime()
      const stopping = await startServer(engine, {
        ...suite.env,
        DRAIN_DELAY_MS: '100',
        RUNTIMES: JSON.stringify([{ name: 'held', kind: 'kserve', url: runtime.url, concurrency: 1 }]),
      })
      const ask = (prefer: string) =>
        fetch(`${stopping.url}/api/images`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', prefer },
          body: JSON.stringify(TINY),
        })
      const running = ask('wait=60')
      await eventually(() => expect(runtime.stats.running).toBe(1))
      const code = stopping.stop()
      await eventually(async () => expect((await fetch(`${stopping.url}/ready`)).status).toBe(503))
      await eventually(async () => {
        const late = await ask('respond-async')
        expect(late.status).toBe(503)
        expect(await late.json()).toMatchObject({ code: 'overloaded', detail: expect.stringMatching(/shut/) })
      })
      runtime.release()
      expect((await running).status).toBe(200)
      expect(await code).toBe(0)
      await runtime.stop()
    })
  })
}
