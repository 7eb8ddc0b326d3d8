/** Ports for servers that tests start and that cannot choose one themselves. */
import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

/**
 * Ports of 127.0.0.1 that are free now, all different. Below the range from which systems serve outgoing connections:
 * one of those could take a port in the seconds until the server listens.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>()
  while (ports.size < count) {
    const port = randomInt(12_000, 32_000)
    if (await isFree(port)) ports.add(port)
  }
  return [...ports]
}

function isFree(port: number): Promise<boolean> {
  const server = createServer()
  return new Promise((resolve) => {
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
