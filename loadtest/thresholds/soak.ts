/** The same as under load, for long. */
import { ALWAYS, type Thresholds } from './always.ts'
import { busy } from './bounds.ts'

export const thresholds: Thresholds = { ...ALWAYS, ...busy('soak') }
