/** Connections of their own change nothing: pictures below capacity, refusals beyond it. */
import { SECONDS } from '../workloads/websocket.ts'
import { ALWAYS, type Thresholds } from './always.ts'
import { calm, overloaded } from './bounds.ts'

export const thresholds: Thresholds = {
  ...ALWAYS,
  ...calm('below'),
  ...overloaded('double', { times: 2, seconds: SECONDS }),
}
