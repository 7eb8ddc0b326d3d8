/** `/ws` on a real server: every client, both protocols, limits, tokens, drops and restarts. */
import { describe } from 'vitest'
import type { Engine } from '../support/process.ts'
import { authentication, pings } from './websocket/authentication.ts'
import { clients } from './websocket/clients.ts'
import { leaks, limits } from './websocket/limits.ts'
import { messages } from './websocket/messages.ts'
import { restarts } from './websocket/restarts.ts'
import { createSocketSuite } from './websocket/server.ts'
import { strangers } from './websocket/strangers.ts'
import { upgrades } from './websocket/upgrades.ts'

/** The suite for one engine. */
export function websocketContract(engine: Engine): void {
  describe('without authentication', () => {
    const suite = createSocketSuite(engine)
    for (const topic of [clients, strangers, messages, limits, upgrades, leaks]) topic(suite)
  })
  for (const topic of [authentication, pings, restarts]) topic(engine)
}
