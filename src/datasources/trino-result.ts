/** Collects the result of a query, page by page, up to limits: https://trino.io/docs/current/develop/client-protocol.html */
import { z } from 'zod'
import { TrinoError } from './trino-error.ts'

export interface Column {
  readonly name: string
  /** Trino's name of the type, such as `decimal(38, 2)` or `row(id bigint, tags array(varchar))`. */
  readonly type: string
}

export interface QueryLimits {
  /** Rows of the answer. */
  readonly maxRows: number
  /** Bytes of the rows as JSON. */
  readonly maxBytes: number
}

/** Which limit cut an answer. `pages`: more lies at an address that this server may not follow. */
export type Cut = 'rows' | 'bytes' | 'pages'

export interface QueryResult {
  readonly queryId: string | undefined
  readonly columns: readonly Column[]
  /** Numbers that JSON cannot hold exactly are strings; rows are arrays, maps are objects. */
  readonly rows: readonly (readonly unknown[])[]
  /** Present where there are more rows than these. */
  readonly cut: Cut | undefined
  /** What a statement that is no query did, such as `INSERT`. */
  readonly updateType: string | undefined
  /** How many rows it changed. */
  readonly updateCount: number | undefined
}

export interface QueryOptions {
  /** Where unqualified names are looked up. */
  readonly catalog?: string
  readonly schema?: string
  readonly limits: QueryLimits
  /** How long the statement may take, in milliseconds. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
  readonly requestId: string
}

/** Something that runs one statement of Trino's SQL. */
export interface QueryEngine {
  /**
   * Runs a statement to its end, or to a limit. Nothing goes on once this settles.
   * @throws AppError; its cause is a TrinoError where Trino itself refused the statement.
   */
  query(sql: string, options: QueryOptions): Promise<QueryResult>
}

const queryError = z.object({
  message: z.string(),
  errorName: z.string(),
  errorType: z.string(),
})

/** One page: the fields of Trino's `QueryResults` that are used here. */
const page = z.object({
  id: z.string().nullish(),
  columns: z.array(z.object({ name: z.string(), type: z.string() })).nullish(),
  data: z.array(z.array(z.unknown())).nullish(),
  nextUri: z.string().nullish(),
  updateType: z.string().nullish(),
  updateCount: z.number().nullish(),
  error: queryError.nullish(),
})
export type Page = z.output<typeof page>

/** @throws TrinoError of a page that carries one, ZodError of anything that is no page. */
export function readPage(value: unknown): Page {
  const parsed = page.parse(value)
  if (parsed.error) {
    const { message, errorName, errorType } = parsed.error
    throw new TrinoError({ message, name: errorName, type: errorType })
  }
  return parsed
}

/** Gathers pages until a limit is hit. */
export function createCollector({ maxRows, maxBytes }: QueryLimits) {
  const rows: unknown[][] = []
  let bytes = 0
  let cut: Cut | undefined
  let last: Partial<Page> = {}
  return {
    /** Adds a page's rows as far as the limits allow; true while more may come. */
    add(page: Page): boolean {
      last = { ...last, ...Object.fromEntries(Object.entries(page).filter(([, value]) => value != null)) }
      for (const row of page.data ?? []) {
        const size = Buffer.byteLength(JSON.stringify(row)) + 1
        if (rows.length >= maxRows) cut = 'rows'
        else if (bytes + size > maxBytes) cut = 'bytes'
        if (cut) return false
        bytes += size
        rows.push(row)
      }
      return true
    },
    /** The result so far; `cutBy` says why no more was requested. */
    result(cutBy?: Cut): QueryResult {
      return {
        queryId: last.id ?? undefined,
        columns: (last.columns ?? []).map(({ name, type }) => ({ name, type })),
        rows,
        cut: cut ?? cutBy,
        updateType: last.updateType ?? undefined,
        updateCount: last.updateCount ?? undefined,
      }
    },
  }
}

/** JSON in which an integer that a JavaScript number cannot hold exactly becomes a string of its digits. */
export function parseExactJson(text: string): unknown {
  // The reviver is slow, and fewer digits always fit.
  if (!/\d{16}/.test(text)) return JSON.parse(text)
  return JSON.parse(text, ((_key: string, value: unknown, context: { source?: string }) =>
    typeof value === 'number' && /^-?\d{16,}$/.test(context.source ?? '') && !Number.isSafeInteger(value)
      ? context.source
      : value) as (key: string, value: unknown) => unknown)
}
