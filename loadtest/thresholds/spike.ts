/** The spike is refused as far as it is too much, and nothing of it is left afterwards. */
import { SECONDS } from '../workloads/spike.ts'
import { ALWAYS, type Thresholds } from './always.ts'
import { calm, overloaded } from './bounds.ts'

export const thresholds: Thresholds = {
  ...ALWAYS,
  ...calm('before'),
  ...overloaded('spike', { times: 5, seconds: SECONDS }),
  ...calm('after'),
}
