/** The fixtures on Deno. */
import process from 'node:process'
import { createConformanceParts } from './parts.ts'

const { config, parts } = await createConformanceParts()
const server = Deno.serve({ hostname: config.host, port: config.port, onListen: () => {} }, parts.app.fetch)
parts.listening({ port: server.addr.port })
process.once('SIGTERM', () => process.exit(0))
