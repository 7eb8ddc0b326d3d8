/** The one Trino that all topics speak to, through the tools. */
import { pino } from 'pino'
import { afterAll, beforeAll } from 'vitest'
import { ANONYMOUS } from '../../../src/auth/caller.ts'
import { createTrino, type TrinoOptions } from '../../../src/datasources/trino.ts'
import type { Tool } from '../../../src/tools/tool.ts'
import { createTrinoAccess, type TrinoAccessOptions } from '../../../src/tools/trino/access.ts'
import { describeTable } from '../../../src/tools/trino/describe-table.ts'
import { executeQuery } from '../../../src/tools/trino/execute-query.ts'
import { listCatalogs } from '../../../src/tools/trino/list-catalogs.ts'
import { listSchemas } from '../../../src/tools/trino/list-schemas.ts'
import { listTables } from '../../../src/tools/trino/list-tables.ts'
import { givenTrino, missingForTrino, startTrino, type TestTrino, type Trino } from '../../support/trino.ts'

export const given = givenTrino()
export const missing = given ? undefined : missingForTrino()
/** Marks the statements of this run: a server that is given may list those of earlier ones. */
export const RUN = `run_${Date.now().toString(36)}`
/** The first run on a machine fetches Trino. */
const INSTALL_MS = 900_000
/** A statement that runs until somebody stops it. `mark` finds it again in Trino's list. */
export const endless = (mark: string) =>
  `SELECT count(*) AS ${mark}_${RUN} FROM tpch.sf1000.lineitem a CROSS JOIN tpch.sf1000.lineitem b`

/** What the topics work with. */
export type TrinoSuite = ReturnType<typeof createTrinoSuite>
/** Calls one tool as one caller has it. */
export type Call = (name: string, args: unknown, signal?: AbortSignal) => ReturnType<Tool['call']>

/** Starts Trino before all tests, and stops it after them. */
export function createTrinoSuite() {
  let trino: TestTrino
  /** Present where the tests have a server of their own. */
  let own: Trino
  const logged: string[] = []
  const log = pino({ level: 'trace' }, { write: (line: string) => void logged.push(line) })
  const answered: unknown[] = []
  const closing: (() => Promise<void>)[] = []

  /** All tools as one caller has them; `user` is Trino's. */
  const toolsFor = (
    trinoOptions: Partial<TrinoOptions> = {},
    options: Partial<TrinoAccessOptions> = {},
  ): Call => {
    const cluster = createTrino({ url: trino.url, user: 'admin', ...trinoOptions })
    closing.push(() => cluster.close())
    const access = createTrinoAccess({
      cluster,
      xdp: undefined,
      limits: { maxRows: 1000, maxBytes: 256 * 1024 },
      timeoutMs: 60_000,
      allowWrites: false,
      log,
      ...options,
    })
    const tools = new Map<string, Tool>(
      [executeQuery, listCatalogs, listSchemas, listTables, describeTable].map((make) => {
        const tool = make(access)
        return [tool.name, tool]
      }),
    )
    return async (name: string, args: unknown, signal = new AbortController().signal) => {
      const context = { caller: ANONYMOUS, signal, requestId: 'request-1' }
      const result = await tools
        .get(name)!
        .call(args, context)
        .catch((error) => {
          answered.push({ message: error.message })
          throw error
        })
      answered.push(result)
      return result
    }
  }
  let asAdmin: Call
  const call: Call = (...args) => asAdmin(...args)
  const query = async (sql: string, more: Record<string, unknown> = {}, by: Call = call) =>
    (await by('trino_execute_query', { query: sql, ...more })).structured
  /** All that the memory catalog holds. */
  const held = async () => [
    await trino.admin('SHOW SCHEMAS FROM memory'),
    await trino.admin('SHOW TABLES FROM memory.default'),
    await trino.admin('SHOW COLUMNS FROM memory.default.kept'),
  ]
  let heldBefore: unknown[][][]
  let seenBefore: Set<string>
  const kept = () => trino.admin('SELECT a FROM memory.default.kept')

  beforeAll(async () => {
    if (given) trino = given
    else trino = own = await startTrino()
    asAdmin = toolsFor()
    await trino.admin("CREATE TABLE IF NOT EXISTS memory.default.kept AS SELECT BIGINT '1' a")
    heldBefore = await held()
    seenBefore = new Set((await trino.queries('memory.default.kept')).map(({ id }) => id))
  }, INSTALL_MS)
  afterAll(async () => {
    await Promise.all(closing.map((close) => close()))
    await trino?.stop()
  })

  return {
    get trino() {
      return trino
    },
    get own() {
      return own
    },
    get heldBefore() {
      return heldBefore
    },
    get seenBefore() {
      return seenBefore
    },
    logged,
    answered,
    closing,
    toolsFor,
    call,
    query,
    held,
    kept,
  }
}
