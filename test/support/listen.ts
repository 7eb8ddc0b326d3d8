/** A Hono app on a socket, for tests of what only a connection shows. */
import { serve } from '@hono/node-server'
import type { Hono } from 'hono'

/** Listens on a free port of 127.0.0.1. */
export async function listen(app: Hono): Promise<{ url: string; close(): void }> {
  return await new Promise((resolve) => {
    const server = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, ({ port }) =>
      resolve({ url: `http://127.0.0.1:${port}`, close: () => void server.close() }),
    )
  })
}
