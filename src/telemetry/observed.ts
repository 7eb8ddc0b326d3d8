/** Metrics whose values are read at each scrape, from what knows them. */
import { Counter, Gauge, type Registry } from 'prom-client'

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

/** Lets the gauges of the job store read how full it is at each scrape; absent while there is no bound. */
export function observeJobStore(
  registers: [Registry],
  sample: () => { readonly used: number; readonly max: number } | undefined,
): void {
  const gauge = (name: string, help: string, field: 'used' | 'max') =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const room = sample()
        if (room) this.set(room[field])
        else this.remove()
      },
    })
  gauge('diffusers_mcp_job_store_used_bytes', 'Memory that Valkey takes, all it holds included.', 'used')
  gauge('diffusers_mcp_job_store_max_bytes', 'Memory that Valkey may take (maxmemory).', 'max')
}

/** Lets the metrics of the store of pictures read their values at each scrape. */
export function observeImages(registers: [Registry], sample: () => ImagesSample): void {
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
}

/** Lets the metrics of the replicas read their values at each scrape. */
export function observeReplicas(registers: [Registry], sample: () => readonly ReplicaSample[]): void {
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

/** Lets the gauges of queue, concurrency and estimate read their values at each scrape. */
export function observeQueue(registers: [Registry], sample: () => readonly QueueSample[]): void {
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
}
