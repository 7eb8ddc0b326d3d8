/** What every engine's server promises to every client; run against real processes. */
import type { Engine } from '../support/process.ts'
import { badInput } from './suite/bad-input.ts'
import { mcpClients } from './suite/mcp.ts'
import { once } from './suite/once.ts'
import { operators } from './suite/operators.ts'
import { overload } from './suite/overload.ts'
import { rest } from './suite/rest.ts'
import { createSuite } from './suite/server.ts'
import { strangers } from './suite/strangers.ts'
import { withToken } from './suite/token.ts'
import { tasksContract } from './tasks.ts'

/** The suite for one engine: three clients over HTTP, two over stdio, REST, bad input, and the end of a process. */
export function contract(engine: Engine): void {
  const suite = createSuite(engine)
  mcpClients(suite)
  tasksContract(() => suite.server.url)
  rest(suite)
  once(suite)
  strangers(suite)
  overload(suite)
  badInput(suite)
  // After what they count.
  operators(suite)
  withToken(suite)
}
