/** The fixtures behind the listener of the server, on Node and Deno. */
import { listen } from '../../src/listener.ts'
import { createConformanceParts } from './parts.ts'

const { config, parts } = await createConformanceParts()
const { port } = await listen({ fetch: parts.app.fetch, hostname: config.host, port: config.port })
parts.listening({ port })
process.once('SIGTERM', () => process.exit(0))
