/** The end of a server: what it runs is finished, or handed to the others. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Lanes } from './lanes.ts'

/** How often it is looked whether the runs are over, in milliseconds. */
const LOOK_MS = 100
/** How long a handed-back run may take to stop, in milliseconds. */
const STOP_MS = 5000

/**
 * Finishes what runs within `timeoutMs` milliseconds, and hands back the rest. A server that is alone goes on with the
 * queue as well: nobody else would.
 */
export async function drainLanes(options: {
  readonly lanes: Lanes
  readonly timeoutMs: number
  readonly othersServe: () => Promise<boolean>
}): Promise<void> {
  const { lanes, timeoutMs, othersServe } = options
  const until = performance.now() + timeoutMs
  const workers = lanes.all().map(({ worker }) => worker)
  const pause = () => Promise.all(workers.map((worker) => worker.pause()))
  const isRunning = () => workers.some((worker) => worker.runs().length > 0)
  const isWaiting = () => lanes.all().some(({ counts }) => counts.queued + counts.running > 0)

  let paused = false
  for (;;) {
    if (!paused && (await othersServe())) {
      paused = true
      await pause()
    }
    if ((!isRunning() && (paused || !isWaiting())) || performance.now() > until) break
    await sleep(LOOK_MS)
  }
  if (!paused) await pause()
  for (const worker of workers) worker.handBack()
  for (const over = performance.now() + STOP_MS; performance.now() < over && isRunning(); )
    await sleep(LOOK_MS / 2)
}
