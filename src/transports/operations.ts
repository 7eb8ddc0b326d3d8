/** Routes for operators: health, readiness, metrics. */
import { Hono } from 'hono'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Readiness } from './readiness.ts'

/** `/health` says the process answers; `/ready` says it should get traffic (503 else). */
export function healthRoutes({ readiness, version }: { readiness: Readiness; version: string }): Hono {
  return new Hono()
    .get('/health', (c) => c.json({ status: 'ok', version, uptime_seconds: Math.round(process.uptime()) }))
    .get('/ready', async (c) => {
      const { ready, ...report } = await readiness.report()
      return c.json(report, ready ? 200 : 503)
    })
}

/** `/metrics` in Prometheus' text format. */
export function metricsRoutes({ registry }: Pick<Metrics, 'registry'>): Hono {
  return new Hono().get('/metrics', async (c) =>
    c.body(await registry.metrics(), 200, { 'content-type': registry.contentType }),
  )
}
