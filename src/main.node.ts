#!/usr/bin/env node
/** The server on Node. */
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'
import { createParts } from './parts.ts'
import { configOrExit, exitWith, onStopSignal } from './start.ts'
import { createLogger } from './telemetry/log.ts'
import { attachWebSockets, UPGRADES } from './transports/websocket/node.ts'

/**
 * How long an idle connection stays open, in milliseconds. It must be longer than clients and load balancers keep
 * theirs, often 60 s: with Node's default of 5 s the server may close a connection just as the next call arrives.
 */
const IDLE_CONNECTION_MS = 120_000

const config = configOrExit({ args: process.argv.slice(2) })
const log = createLogger({ level: config.logLevel })
const parts = await createParts({ config, log }).catch((error) => exitWith(error.message))

const listen = (fetch: Parameters<typeof serve>[0]['fetch'], port: number) =>
  new Promise<ReturnType<typeof serve>>((resolve, reject) => {
    const serverOptions = { ...UPGRADES, keepAliveTimeout: IDLE_CONNECTION_MS }
    const server = serve({ fetch, hostname: config.host, port, serverOptions }, () => resolve(server))
    server.on('error', reject)
  }).catch((error) =>
    exitWith(`Cannot listen on ${config.host}:${port}: ${error.message}. Set HOST or PORT.`),
  )

const server = await listen(parts.app.fetch, config.port)
attachWebSockets({ server: server as Server, fetch: parts.app.fetch, webSockets: parts.webSockets })
const servers = [server]
if (config.metricsPort !== undefined) servers.push(await listen(parts.metricsApp.fetch, config.metricsPort))

onStopSignal(async () => {
  await parts.drain()
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  await parts.close()
})
// Last, because a supervisor that reads this log line may send a signal immediately.
parts.listening({ port: (server.address() as AddressInfo).port })
