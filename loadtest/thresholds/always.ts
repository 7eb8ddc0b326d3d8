/** What no server may do, at whatever load; and what makes a measurement worthless. */
import { setting } from '../lib/environment.ts'

export const SLACK = setting('TIME_SLACK')

export type Thresholds = Record<string, string[]>

export const ALWAYS: Thresholds = {
  // Neither what was asked for nor a refusal: lost connections, errors, answers without a picture.
  failures: ['rate==0'],
  // A refusal without Retry-After.
  refusals_impolite: ['count==0'],
  pictures: ['count>0'],
  pictures_looked_at: ['count>0'],
  pictures_bad: ['count==0'],
  // The server's RATE_LIMIT_PER_MINUTE, not its capacity, was measured.
  limited_per_minute: ['count==0'],
  // The load generator did not send what it should: raise MAX_VUS.
  dropped_iterations: ['count==0'],
}
