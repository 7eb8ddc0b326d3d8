/** Prometheus metrics. Callers, prompts and ids never become labels, so that the number of time series is bounded. */
import { readdirSync } from 'node:fs'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** Seconds: from a cached answer to a generation of 15 minutes. */
const JOB_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 900]
const HTTP_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 20, 60]

/** The current queue of a target, read at each scrape. */
export interface QueueSample {
  readonly target: string
  readonly queued: number
  readonly running: number
  /** Predicted service time of a default picture, in milliseconds; absent while unknown. */
  readonly estimate_ms?: number
}

/** A replica as this server sees it, read at each scrape. */
export interface ReplicaSample {
  readonly target: string
  /** Its address: replicas are few, and those that left have no series any more. */
  readonly replica: string
  readonly slots: number
  readonly state: string
  readonly in_flight: number
  readonly made: number
  readonly ejections: number
}

/** How full the store of pictures is, read at each scrape. */
export interface ImagesSample {
  readonly bytes: number
  readonly maxBytes: number
  readonly removedEarly: number
}

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
  const registers = [registry]
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
    /** Lets the metrics of the store of pictures read their values at each scrape. */
    observeImages(sample: () => ImagesSample) {
      new Gauge({
        name: 'diffusers_mcp_images_bytes',
        help: 'What the stored pictures take; with a shared store, at its last check.',
        registers,
        collect() {
          this.set(sample().bytes)
        },
      })
      new Gauge({
        name: 'diffusers_mcp_images_max_bytes',
        help: 'What the stored pictures may take.',
        registers,
        collect() {
          this.set(sample().maxBytes)
        },
      })
      let counted = 0
      new Counter({
        name: 'diffusers_mcp_images_removed_early_total',
        help: 'Pictures that this server removed before they expired, because their owner held more than its share of a full store.',
        registers,
        collect() {
          const { removedEarly } = sample()
          this.inc(removedEarly - counted)
          counted = removedEarly
        },
      })
    },

    /** Lets the metrics of the replicas read their values at each scrape. */
    observeReplicas: (sample: () => readonly ReplicaSample[]) => observeReplicas(registers, sample),

    /** Lets the gauges of queue, concurrency and estimate read their values at each scrape. */
    observeQueue(sample: () => readonly QueueSample[]) {
      const gauge = (name: string, help: string, value: (target: QueueSample) => number | undefined) =>
        new Gauge({
          name,
          help,
          labelNames: ['target'],
          registers,
          collect() {
            for (const target of sample()) {
              const current = value(target)
              if (current !== undefined) this.set({ target: target.target }, current)
            }
          },
        })
      gauge('diffusers_mcp_jobs_queued', 'Jobs that wait now.', ({ queued }) => queued)
      gauge('diffusers_mcp_jobs_running', 'Jobs that run now.', ({ running }) => running)
      gauge(
        'diffusers_mcp_job_estimate_seconds',
        'Predicted service time of a picture with the defaults of the target; absent while too little is known.',
        ({ estimate_ms }) => (estimate_ms === undefined ? undefined : estimate_ms / 1000),
      )
    },
  }
}

function observeReplicas(registers: Registry[], sample: () => readonly ReplicaSample[]): void {
  const metric = (
    Kind: typeof Gauge | typeof Counter,
    { name, help, value }: { name: string; help: string; value: (replica: ReplicaSample) => number },
  ) =>
    new Kind({
      name: `diffusers_mcp_replica_${name}`,
      help,
      labelNames: ['target', 'replica'],
      registers,
      collect() {
        this.reset()
        for (const one of sample()) this.inc({ target: one.target, replica: one.replica }, value(one))
      },
    })
  metric(Gauge, {
    name: 'ready',
    help: '1 where this server gives pictures to the replica; 0 where it starts, is busy or ejected.',
    value: ({ state }) => (state === 'ready' ? 1 : 0),
  })
  metric(Gauge, {
    name: 'ejected',
    help: '1 where this server ejected the replica and tries it again from time to time.',
    value: ({ state }) => (state === 'ejected' ? 1 : 0),
  })
  metric(Gauge, {
    name: 'slots',
    help: 'Pictures that the replica draws at once, for all servers together.',
    value: ({ slots }) => slots,
  })
  metric(Gauge, {
    name: 'in_flight',
    help: 'Pictures that this server has the replica draw now.',
    value: ({ in_flight }) => in_flight,
  })
  metric(Counter, {
    name: 'pictures_total',
    help: 'Pictures that the replica drew for this server.',
    value: ({ made }) => made,
  })
  metric(Counter, {
    name: 'ejections_total',
    help: 'Times that this server ejected the replica.',
    value: ({ ejections }) => ejections,
  })
}
