/** Prometheus metrics. Callers, prompts and ids never become labels, so that the number of time series is bounded. */
import { readdirSync } from 'node:fs'
import { Counter, collectDefaultMetrics, Histogram, Registry } from 'prom-client'
import { observeImages, observeJobStore, observeQueue, observeReplicas } from './observed.ts'

/** Seconds: from a cached answer to a generation of 15 minutes. */
const JOB_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 900]
const HTTP_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 20, 60]

export type Metrics = ReturnType<typeof createMetrics>

/** The server's metrics in a registry of their own. */
export function createMetrics() {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  try {
    readdirSync('/proc/self/fd')
  } catch {
    // Deno opens this folder only with all permissions, and the metric would be 0.
    registry.removeSingleMetric('process_open_fds')
  }
  const registers: [Registry] = [registry]
  return {
    registry,
    httpRequests: new Counter({
      name: 'diffusers_mcp_http_requests_total',
      help: 'HTTP requests by route, method and status; 499: the client left before it had the whole answer.',
      labelNames: ['route', 'method', 'status'],
      registers,
    }),
    httpSeconds: new Histogram({
      name: 'diffusers_mcp_http_request_seconds',
      help: 'Time to the response headers, by route.',
      labelNames: ['route'],
      buckets: HTTP_SECONDS,
      registers,
    }),
    toolCalls: new Counter({
      name: 'diffusers_mcp_tool_calls_total',
      help: 'Tool calls by tool and outcome: ok or an error code; client_left where nobody waited for the end.',
      labelNames: ['tool', 'outcome'],
      registers,
    }),
    jobsEnded: new Counter({
      name: 'diffusers_mcp_jobs_total',
      help: 'Ended jobs by target and state.',
      labelNames: ['target', 'state'],
      registers,
    }),
    jobsRefused: new Counter({
      name: 'diffusers_mcp_jobs_refused_total',
      help: 'Generations refused at admission, by target and error code.',
      labelNames: ['target', 'reason'],
      registers,
    }),
    queueSeconds: new Histogram({
      name: 'diffusers_mcp_job_queue_seconds',
      help: 'Time from admission to the start of the generation.',
      labelNames: ['target'],
      buckets: JOB_SECONDS,
      registers,
    }),
    serviceSeconds: new Histogram({
      name: 'diffusers_mcp_job_service_seconds',
      help: 'Time from the start of a generation to its stored picture; succeeded jobs only.',
      labelNames: ['target'],
      buckets: JOB_SECONDS,
      registers,
    }),
    // Metrics whose values are read at each scrape.
    observeJobStore: observeJobStore.bind(undefined, registers),
    observeImages: observeImages.bind(undefined, registers),
    observeReplicas: observeReplicas.bind(undefined, registers),
    observeQueue: observeQueue.bind(undefined, registers),
  }
}
