/** The fixtures on Node. */
import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'
import { createConformanceParts } from './parts.ts'

const { config, parts } = await createConformanceParts()
const server = serve({ fetch: parts.app.fetch, hostname: config.host, port: config.port }, () =>
  parts.listening({ port: (server.address() as AddressInfo).port }),
)
process.once('SIGTERM', () => process.exit(0))
