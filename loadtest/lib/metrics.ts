/** What is measured, and how a call is recorded: admitted and refused apart, waiting and inference apart. */
import exec from 'k6/execution'
import { Counter, Rate, Trend } from 'k6/metrics'
import { setting } from './environment.ts'
import { failed, type Outcome } from './outcome.ts'
import type { Interface } from './settings.ts'

/** Pictures that came. Milliseconds from the call to the whole answer. */
const admittedDuration = new Trend('admitted_duration', true)
/** The same of calls that were refused. */
const refusedDuration = new Trend('refused_duration', true)
/** Of each picture, as the server tells: waiting for a slot, and in the runtime. */
const queueWait = new Trend('queue_wait', true)
const inference = new Trend('inference', true)
/** What is left of an admitted call without these two: network and server. */
const overhead = new Trend('overhead', true)
const dataDuration = new Trend('data_duration', true)
const pictures = new Counter('pictures')
/** Share of calls for pictures that were refused; and refusals that did not tell when to come again. */
const refused = new Rate('refused')
const refusalsImpolite = new Counter('refusals_impolite')
/** Refusals by RATE_LIMIT_PER_MINUTE, which tell nothing of capacity. */
const limitedPerMinute = new Counter('limited_per_minute')
/** Share of calls that ended neither with what was asked for nor with a refusal. */
const failures = new Rate('failures')
/** Share of MCP tool results with `isError`, which HTTP statuses do not show; refusals are among them. */
export const mcpIsError = new Rate('mcp_is_error')
/** Pictures that were looked at, and those of them that are not what they should be. */
const picturesLookedAt = new Counter('pictures_looked_at')
const picturesBad = new Counter('pictures_bad')

const RECORDS = setting('RECORDS') === 1

/** Prints a line for the report. */
export function print(line: Record<string, unknown>): void {
  if (RECORDS) console.log(JSON.stringify(line))
}

/** Makes a call and records what became of it. */
export async function measure(by: Interface, call: () => Outcome | Promise<Outcome>): Promise<void> {
  const startedAt = Date.now()
  const outcome = await settled(call)
  const ms = Date.now() - startedAt
  const isData = by === 'trino' || by === 'xdp'
  failures.add(outcome.state === 'failed')
  if (!isData) refused.add(outcome.state === 'refused')
  if (outcome.state === 'refused') {
    refusedDuration.add(ms)
    if (!outcome.polite) refusalsImpolite.add(1)
    if (outcome.perMinute) limitedPerMinute.add(1)
  } else if (outcome.state === 'delivered' && !outcome.picture) dataDuration.add(ms)
  else if (outcome.state === 'delivered' && outcome.picture) {
    const { queuedMs, inferenceMs } = outcome.picture
    pictures.add(1)
    admittedDuration.add(ms)
    queueWait.add(queuedMs)
    inference.add(inferenceMs)
    overhead.add(Math.max(0, ms - queuedMs - inferenceMs))
  }
  print({
    ...{ call: by, phase: exec.scenario.name, at: startedAt, ms, state: outcome.state },
    ...(outcome.state === 'delivered' && outcome.picture
      ? { queued: outcome.picture.queuedMs, inference: outcome.picture.inferenceMs }
      : {}),
    ...(outcome.state === 'refused'
      ? { code: outcome.perMinute ? 'rate_limited per minute' : outcome.code }
      : {}),
    ...(outcome.state === 'failed' ? { why: outcome.why } : {}),
  })
  if (outcome.state === 'delivered' && outcome.picture && isSample()) {
    const fault = outcome.picture.look()
    picturesLookedAt.add(1)
    if (fault === undefined) return
    picturesBad.add(1)
    print({ fault, at: Date.now() })
  }
}

/** An answer that nobody expected is a failure of the call, not the end of the iteration. */
async function settled(call: () => Outcome | Promise<Outcome>): Promise<Outcome> {
  try {
    return await call()
  } catch (error) {
    return failed(`not understood: ${error}`)
  }
}

function isSample(): boolean {
  const { name, iterationInTest } = exec.scenario
  return iterationInTest % (setting('SAMPLE_EVERY') ?? (name === 'smoke' ? 1 : 20)) === 0
}
