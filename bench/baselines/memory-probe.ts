/** Preloaded into a measured process: on SIGUSR2 it collects garbage and prints what is left, in bytes. */
process.on('SIGUSR2', () => {
  for (let n = 0; n < 3; n += 1) (globalThis as { gc?: () => void }).gc?.()
  const { heapUsed, external, rss } = process.memoryUsage()
  process.stdout.write(`${JSON.stringify({ event: 'memory', held: heapUsed + external, rss })}\n`)
})
