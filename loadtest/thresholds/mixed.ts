/** Overload of the pictures is bounded as ever, and no query of data notices it. */
import { SECONDS } from '../workloads/mixed.ts'
import { ALWAYS, SLACK, type Thresholds } from './always.ts'
import { overloaded } from './bounds.ts'

export const thresholds: Thresholds = {
  ...ALWAYS,
  ...overloaded('mixed', { times: 2, seconds: SECONDS }),
  // Besides what Trino or XDP themselves take.
  data_duration: [`p(95)<=${500 * SLACK}`],
}
