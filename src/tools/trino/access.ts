/** Sends a Trino tool's statement to a cluster or through XDP, within the limits. */
import { z } from 'zod'
import { assertReadOnly } from '../../datasources/trino-read-only.ts'
import type { QueryEngine, QueryLimits, QueryResult } from '../../datasources/trino-result.ts'
import type { Xdp } from '../../datasources/xdp.ts'
import { AppError } from '../../errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { ToolContext } from '../tool.ts'

export interface TrinoAccessOptions {
  /** The cluster of TRINO_URL. */
  readonly cluster: QueryEngine | undefined
  readonly xdp: Pick<Xdp, 'trino'> | undefined
  readonly limits: QueryLimits
  /** The timeout of a call with its check, in milliseconds. */
  readonly timeoutMs: number
  /** True: runs everything that Trino's access control allows. */
  readonly allowWrites: boolean
  readonly log: Logger
}

export interface Asked {
  readonly dataplane?: string
  readonly catalog?: string
  readonly schema?: string
  readonly maxRows?: number
}

export interface TrinoAccess {
  readonly limits: QueryLimits
  readonly allowWrites: boolean
  /** Runs a statement of this server's own. @throws AppError */
  run(sql: string, asked: Asked, context: ToolContext): Promise<QueryResult>
  /** Runs a caller's statement, which must be read-only unless writes are allowed. @throws AppError */
  runAsked(sql: string, asked: Asked, context: ToolContext): Promise<QueryResult>
}

/** The argument of every Trino tool. */
export const dataplaneArgument = {
  dataplane: z
    .string()
    .min(1)
    .max(200)
    .optional()
    .describe('The XDP data plane whose Trino to use. Absent: the cluster that this server is connected to.'),
}

/** Access to Trino by the configured ways. */
export function createTrinoAccess(options: TrinoAccessOptions): TrinoAccess {
  const { cluster, xdp, limits, timeoutMs, allowWrites, log } = options

  function engineFor(dataplane: string | undefined): QueryEngine {
    if (dataplane !== undefined) {
      if (xdp) return xdp.trino(dataplane)
      throw new AppError(
        'invalid_request',
        'dataplane cannot be given here: this server is not connected to XDP (XDP_BASE_URL). Leave it out.',
      )
    }
    if (cluster) return cluster
    throw new AppError(
      'invalid_request',
      'dataplane is missing: this server reaches Trino through XDP only (there is no TRINO_URL). xdp_list_datastores shows what there is.',
    )
  }

  async function within(
    asked: Asked,
    { signal, requestId, deadlineMs = timeoutMs }: ToolContext,
    work: (
      query: (sql: string, limits: Partial<QueryLimits>) => Promise<QueryResult>,
    ) => Promise<QueryResult>,
  ): Promise<QueryResult> {
    const engine = engineFor(asked.dataplane)
    const until = performance.now() + Math.min(timeoutMs, deadlineMs)
    try {
      return await work((sql, less) =>
        engine.query(sql, {
          catalog: asked.catalog,
          schema: asked.schema,
          limits: { ...limits, ...less },
          timeoutMs: Math.max(1, Math.round(until - performance.now())),
          signal,
          requestId,
        }),
      )
    } catch (error) {
      if (error instanceof AppError && error.status >= 500)
        log.warn({ event: 'trino failed', request_id: requestId, code: error.code, err: error.cause })
      throw error
    }
  }

  return {
    limits,
    allowWrites,
    run: (sql, asked, context) => within(asked, context, (query) => query(sql, {})),
    runAsked: (sql, asked, context) =>
      within(asked, context, async (query) => {
        if (!allowWrites)
          await assertReadOnly(sql, async (check) => (await query(check, { maxRows: 1 })).rows)
        return await query(sql, { maxRows: asked.maxRows ?? limits.maxRows })
      }),
  }
}
