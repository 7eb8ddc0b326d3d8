/** Routes for operators: health, readiness, metrics. */
import { Hono } from 'hono'
import { z } from 'zod'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Readiness, readyAnswer } from './readiness.ts'

/** Answered to everybody, and logged for debugging only. */
export const PROBE_PATHS: ReadonlySet<string> = new Set(['/health', '/ready', '/metrics'])

/** What `/health` answers. */
export const healthAnswer = z.object({
  status: z.literal('ok'),
  version: z.string(),
  uptime_seconds: z.int(),
})

/** `/health` says that the process answers; `/ready` whether it should get traffic (503 where not). */
export function healthRoutes({ readiness, version }: { readiness: Readiness; version: string }): Hono {
  return new Hono()
    .get('/health', (c) => {
      const uptime_seconds = Math.round(process.uptime())
      return c.json({ status: 'ok', version, uptime_seconds } satisfies z.output<typeof healthAnswer>)
    })
    .get('/ready', async (c) => {
      const { ready, ...report } = await readiness.report()
      return c.json(report satisfies z.output<typeof readyAnswer>, ready ? 200 : 503)
    })
}

/** `/metrics` in Prometheus' text format. */
export function metricsRoutes({ registry }: Pick<Metrics, 'registry'>): Hono {
  return new Hono().get('/metrics', async (c) =>
    c.body(await registry.metrics(), 200, { 'content-type': registry.contentType }),
  )
}
