#!/usr/bin/env node
/** The server on stdio, for hosts that start it as a child process. The protocol owns standard output. */
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import { createParts } from './parts.ts'
import { closeWithin, onStopSignal } from './shutdown.ts'
import { configOrExit, exitWith } from './start.ts'
import { createLogger } from './telemetry/log.ts'
import { createMcpServerFactory } from './transports/mcp.ts'

const config = configOrExit({ args: process.argv.slice(2) })
const log = createLogger({ level: config.logLevel, fd: 2 })
const parts = await createParts({ config, log }).catch((error) => exitWith(error.message))

const connection = serveStdio(createMcpServerFactory(parts.mcpParts), {
  onerror: (error) => log.debug({ event: 'stdio', message: error.message }),
})

/** How long the parts may take to close, in milliseconds. A host that stops the server waits about as long. */
const CLOSE_MS = 2000
const stop = () =>
  closeWithin({
    until: performance.now() + CLOSE_MS,
    close: async () => {
      await connection.close()
      await parts.close()
    },
    log,
  })
onStopSignal(stop)
// The host closed the pipe, so no client is left.
process.stdin.once('end', () => void stop().then(() => process.exit(0)))
log.info({ event: 'serving on stdio' })
