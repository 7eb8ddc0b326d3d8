/**
 * Preloaded into a measured process: on SIGUSR2 it prints how long the event loop was kept from its timers since the
 * last time (ms), then collects garbage and prints what is left, in bytes.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'

const RESOLUTION_MS = 1
const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
delay.enable()

process.on('SIGUSR2', () => {
  const toMs = (nanoseconds: number) => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS)
  const told = { delay_p50: toMs(delay.percentile(50)), delay_p99: toMs(delay.percentile(99)) }
  for (let n = 0; n < 3; n += 1) (globalThis as { gc?: () => void }).gc?.()
  const { heapUsed, external, rss } = process.memoryUsage()
  process.stdout.write(`${JSON.stringify({ event: 'probe', held: heapUsed + external, rss, ...told })}\n`)
  delay.reset()
})
