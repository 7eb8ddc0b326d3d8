/** The lines that k6 prints with RECORDS=1 (loadtest/lib/metrics.ts, queue.ts, summary.ts). Times: milliseconds since 1970. */

export interface Call {
  readonly call: string
  readonly phase: string
  readonly at: number
  readonly ms: number
  readonly state: 'delivered' | 'refused' | 'failed'
  /** Of a picture, in milliseconds. */
  readonly queued?: number
  readonly inference?: number
  /** Of a refusal. */
  readonly code?: string
  /** Of a failure. */
  readonly why?: string
}

export interface QueueSample {
  readonly at: number
  readonly queue: number
  readonly running: number
  /** Resident memory of the first server in bytes, where /metrics is on the same port. */
  readonly memory?: number
}

export interface Verdict {
  readonly metric: string
  readonly limit: string
  readonly ok: boolean
  readonly value: number | null
}

/** Everything that a run of k6 told. */
export interface Lines {
  readonly calls: Call[]
  readonly samples: QueueSample[]
  /** What was wrong with a picture. */
  readonly faults: string[]
  /** Absent until the end of a run that got there. */
  verdict: readonly Verdict[] | undefined
}

export const noLines = (): Lines => ({ calls: [], samples: [], faults: [], verdict: undefined })

/** Takes a line in; false when it is none of these. */
export function takeLine(lines: Lines, line: string): boolean {
  if (!line.startsWith('{')) return false
  let parsed: Call | QueueSample | { fault: string } | { verdict: Verdict[] }
  try {
    parsed = JSON.parse(line)
  } catch {
    return false
  }
  if ('call' in parsed) lines.calls.push(parsed)
  else if ('queue' in parsed) lines.samples.push(parsed)
  else if ('fault' in parsed) lines.faults.push(parsed.fault)
  else if ('verdict' in parsed) lines.verdict = parsed.verdict
  else return false
  return true
}
