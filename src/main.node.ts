#!/usr/bin/env node
/** The server. main.deno.ts is the same program on Deno. */
import { listen } from './listener.ts'
import { createParts } from './parts.ts'
import { endServer, onStopSignal } from './shutdown.ts'
import { configOrExit, exitWith } from './start.ts'
import { createLogger } from './telemetry/log.ts'

const config = configOrExit({ args: process.argv.slice(2) })
const log = createLogger({ level: config.logLevel })
const parts = await createParts({ config, log }).catch((error) => exitWith(error.message))

const listenOrExit = (options: Pick<Parameters<typeof listen>[0], 'fetch' | 'port' | 'webSockets'>) =>
  listen({ ...options, hostname: config.host }).catch((error) =>
    exitWith(`Cannot listen on ${config.host}:${options.port}: ${error.message}. Set HOST or PORT.`),
  )

const { app, metricsApp, webSockets } = parts
const listener = await listenOrExit({ fetch: app.fetch, port: config.port, webSockets })
const listeners = [listener]
if (config.metricsPort !== undefined)
  listeners.push(await listenOrExit({ fetch: metricsApp.fetch, port: config.metricsPort }))

onStopSignal(() => endServer({ ...config, parts, listeners, log }))
// Last, because a supervisor that reads this log line may send a signal immediately.
parts.listening({ port: listener.port })
