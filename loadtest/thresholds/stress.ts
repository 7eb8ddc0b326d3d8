/** Nobody is refused below capacity, capacity is delivered beyond it, and afterwards all is as before. */
import { LEVELS, SECONDS } from '../workloads/stress.ts'
import { ALWAYS, type Thresholds } from './always.ts'
import { busy, calm, overloaded } from './bounds.ts'

export const thresholds: Thresholds = {
  ...ALWAYS,
  ...calm('half'),
  ...busy('nearly'),
  ...overloaded('double', { times: LEVELS.double, seconds: SECONDS }),
  ...overloaded('peak', { times: LEVELS.peak, seconds: SECONDS }),
  ...calm('recovered'),
}
