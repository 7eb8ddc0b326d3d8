/** A well-sized deployment: few are refused, nobody waits longer than the queue. */
import { ALWAYS, type Thresholds } from './always.ts'
import { busy } from './bounds.ts'

export const thresholds: Thresholds = { ...ALWAYS, ...busy('load') }
