/** Who is let in, to what, and to whose: tokens, scopes, callers, limits, origins. Run against real processes. */
import type { Engine } from '../support/process.ts'
import { browsers } from './auth/browsers.ts'
import { callers } from './auth/callers.ts'
import { changes } from './auth/changes.ts'
import { disclosure } from './auth/disclosure.ts'
import { limits } from './auth/limits.ts'
import { everyRoute } from './auth/routes.ts'
import { scopes } from './auth/scopes.ts'
import { createAuthSuite } from './auth/server.ts'

const TOPICS = [everyRoute, scopes, callers, changes, limits, browsers, disclosure]

/** The suite for one engine. */
export function authContract(engine: Engine): void {
  const suite = createAuthSuite(engine)
  for (const topic of TOPICS) topic(suite)
}
