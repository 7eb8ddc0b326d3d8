/** A measurement: only what would make it worthless. */
import { ALWAYS, type Thresholds } from './always.ts'

export const thresholds: Thresholds = ALWAYS
