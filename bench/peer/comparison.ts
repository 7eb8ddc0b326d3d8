/** The figures of a comparison of two servers. */

/** One server under a load that it can take; medians of the rounds. */
export interface Cost {
  readonly name: string
  readonly cpuMs: number
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly peakRssMiB: number
}

/** One server under twice the load that the runtime can take. */
export interface Overload {
  readonly name: string
  /** What the runtime does with more than it can take. */
  readonly runtime: string
  /** Pictures delivered in time, as a share of what the runtime can make. */
  readonly goodput: number
  readonly deliveredP99Ms: number
  readonly asked: number
  readonly delivered: number
  readonly refused: number
  readonly refusedP50Ms: number | undefined
  readonly gaveUp: number
  /** Pictures that the runtime finished. */
  readonly made: number
}

export interface Comparison {
  readonly date: string
  readonly machine: string
  readonly versions: Readonly<Record<'node' | 'python' | 'fastmcp', string>>
  readonly rounds: number
  readonly costs: readonly Cost[]
  readonly overload: readonly Overload[]
}
