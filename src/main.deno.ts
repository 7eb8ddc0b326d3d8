/** The server on Deno. */
import { createParts } from './parts.ts'
import { configOrExit, exitWith, onStopSignal } from './start.ts'
import { createLogger } from './telemetry/log.ts'
import { withWebSockets } from './transports/websocket/deno.ts'

const config = configOrExit({ args: Deno.args })
const log = createLogger({ level: config.logLevel })
const parts = await createParts({ config, log }).catch((error) => exitWith(error.message))

type Handler = (request: Request, connection: Deno.ServeHandlerInfo) => Response | Promise<Response>
const listen = (handler: Handler, port: number) => {
  try {
    return Deno.serve({ hostname: config.host, port, onListen: () => {} }, handler)
  } catch (error) {
    return exitWith(`Cannot listen on ${config.host}:${port}: ${(error as Error).message}. Set HOST or PORT.`)
  }
}

const server = listen(withWebSockets({ fetch: parts.app.fetch, webSockets: parts.webSockets }), config.port)
const servers = [server]
if (config.metricsPort !== undefined) servers.push(listen(parts.metricsApp.fetch, config.metricsPort))

onStopSignal(async () => {
  await parts.drain()
  await Promise.all(servers.map((server) => server.shutdown()))
  await parts.close()
})
// Last, because a supervisor that reads this log line may send a signal immediately.
parts.listening({ port: server.addr.port })
