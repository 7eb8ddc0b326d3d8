/**
 * Client of Acceldata xDP's control plane, whose base URL ends in `/xdp-cp-service/api`. Its API is not published: this
 * client follows what its published MCP server sends and reads. Requests carry the headers `accessKey` and `secretKey`;
 * answers are `{errorCode, success, message, detailedMessage, data}`; pages count from 0; `POST /query/execute` takes
 * Trino's SQL.
 */
import { z } from 'zod'
import { AppError, plainText, quote } from '../errors.ts'
import { AnswerTooLarge, createHttp, type HttpAnswer, NoAnswer } from './http.ts'
import { fromTrinoError, queryTooLong, TrinoError } from './trino-error.ts'
import { createCollector, type Page, parseExactJson, type QueryEngine, readPage } from './trino-result.ts'

const ANSWER_MAX_BYTES = 64 * 2 ** 20
/** How long a request that changes nothing is repeated while XDP is away, in milliseconds. */
const REPEAT_MS = 3000
const CANCEL_MS = 5000

export interface XdpOptions {
  /** Such as `https://xdp.example.com/xdp-cp-service/api`. */
  readonly baseUrl: string
  /** Called for each request, so that the keys may be rotated. */
  readonly accessKey: () => string
  readonly secretKey: () => string
  /** How long one request may take, in milliseconds. */
  readonly timeoutMs: number
}

export interface Datastores {
  /** As XDP describes them. */
  readonly datastores: readonly Readonly<Record<string, unknown>>[]
  readonly pagination: {
    readonly page: number
    readonly size: number
    readonly totalElements: number
    readonly totalPages: number
  }
}

export interface Xdp {
  /** One page of datastores. Pages count from 0; `sortBy` is such as `updatedAt:asc`. @throws AppError */
  listDatastores(
    page: { page: number; size: number; sortBy: string },
    options: { signal: AbortSignal },
  ): Promise<Datastores>
  /**
   * Trino in one data plane. There is no session, so no default catalog and no time limit within Trino. To abort a
   * statement closes the connection to XDP, and stops the query in Trino where XDP gave a `nextUri` of its own.
   */
  trino(dataplane: string): QueryEngine
  /** @throws AppError while XDP cannot be used with these keys. */
  check(options: { signal: AbortSignal }): Promise<void>
  close(): Promise<void>
}

const envelope = z.object({
  success: z.boolean().nullish(),
  errorCode: z.union([z.string(), z.number()]).nullish(),
  message: z.string().nullish(),
  detailedMessage: z.string().nullish(),
  data: z.unknown().optional(),
})
const datastorePage = z.object({
  dataStores: z.array(z.record(z.string(), z.unknown())),
  meta: z.object({ size: z.number(), page: z.number(), count: z.number() }),
})
/** The answer of `/query/execute`, and of a following page, which may also be Trino's own. */
const execution = z.object({
  queryId: z.string().nullish(),
  status: z.string().nullish(),
  error: z.unknown().optional(),
  result: z.record(z.string(), z.unknown()).nullish(),
})

/** XDP, with one pair of keys. */
export function createXdp({ baseUrl, accessKey, secretKey, timeoutMs }: XdpOptions): Xdp {
  const http = createHttp({ maxBytes: ANSWER_MAX_BYTES })
  const { origin } = new URL(baseUrl)
  const headers = () => ({
    accept: 'application/json',
    accesskey: accessKey(),
    secretkey: secretKey(),
  })

  async function send(options: {
    readonly method: 'GET' | 'POST'
    readonly url: string
    readonly body?: unknown
    readonly signal: AbortSignal
  }): Promise<unknown> {
    const { method, url, body } = options
    const signal = AbortSignal.any([options.signal, AbortSignal.timeout(timeoutMs)])
    const answer = await http
      .send({
        method,
        url,
        headers: { ...headers(), ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
        body: body === undefined ? undefined : JSON.stringify(body),
        // A query may change something, so it is sent once.
        repeat: method === 'GET' ? { after: 'all', forMs: REPEAT_MS } : { after: 'nothing', forMs: 0 },
        signal,
      })
      .catch((error) => {
        if (options.signal.aborted) throw options.signal.reason
        if (signal.aborted) throw slow(timeoutMs)
        throw error instanceof NoAnswer ? unavailable(error) : error
      })
    return contentOf(answer)
  }

  /** An address from XDP if it is on XDP's own origin: the keys must not go anywhere else. */
  const ownAddress = (nextUri: string | null | undefined): string | undefined => {
    const url = nextUri ? URL.parse(nextUri, `${baseUrl}/`) : null
    return url?.origin === origin ? url.href : undefined
  }

  const cancel = (url: string) =>
    http.sendInBackground({
      method: 'DELETE',
      url,
      headers: headers(),
      repeat: { after: 'nothing', forMs: 0 },
      signal: AbortSignal.timeout(CANCEL_MS),
    })

  const xdp: Xdp = {
    async listDatastores({ page, size, sortBy }, { signal }) {
      const query = new URLSearchParams({ page: String(page), size: String(size), sort_by: sortBy })
      const content = await send({ method: 'GET', url: `${baseUrl}/datastore?${query}`, signal })
      const { dataStores, meta } = parse(datastorePage, content)
      return {
        datastores: dataStores,
        pagination: {
          page: meta.page,
          size: meta.size,
          totalElements: meta.count,
          totalPages: meta.size > 0 ? Math.ceil(meta.count / meta.size) : 0,
        },
      }
    },

    trino: (dataplane) => ({
      async query(sql, { catalog, schema, limits, timeoutMs, signal: asked }) {
        if (catalog !== undefined || schema !== undefined)
          throw new AppError(
            'invalid_request',
            'catalog and schema cannot be set for a query through XDP: write full names, such as "catalog"."schema"."table".',
          )
        const signal = AbortSignal.any([asked, AbortSignal.timeout(timeoutMs)])
        const collector = createCollector(limits)
        let own: string | undefined
        try {
          let content = await send({
            method: 'POST',
            url: `${baseUrl}/query/execute`,
            body: { engine: 'TRINO', dataplane, query: sql },
            signal,
          })
          for (;;) {
            const page = pageOf(content)
            own = ownAddress(page.nextUri)
            if (!collector.add(page)) return collector.result()
            if (!page.nextUri) {
              own = undefined
              return collector.result()
            }
            if (own === undefined) return collector.result('pages')
            content = await send({ method: 'GET', url: own, signal })
          }
        } catch (error) {
          if (asked.aborted) throw asked.reason
          if (signal.aborted) throw queryTooLong({ afterMs: timeoutMs })
          if (error instanceof AnswerTooLarge) return collector.result('bytes')
          if (error instanceof AppError && error.cause instanceof TrinoError) own = undefined
          throw error
        } finally {
          if (own !== undefined) cancel(own)
        }
      },
    }),

    async check({ signal }) {
      await xdp.listDatastores({ page: 0, size: 1, sortBy: 'updatedAt:asc' }, { signal })
    },

    close: () => http.close(),
  }
  return xdp
}

/** The content of an answer. @throws AppError for a status or an envelope that reports a failure. */
function contentOf({ status, text, retryAfter }: HttpAnswer): unknown {
  let json: unknown
  try {
    json = parseExactJson(text)
  } catch {
    if (status === 200) throw failed(new Error(`no JSON: ${plainText(text, 200)}`))
  }
  const { data: said } = envelope.safeParse(json)
  if (status >= 200 && status < 300 && said?.success !== false)
    // A page of Trino has a `data` of its own, so only an envelope is opened.
    return said?.success === true ? said.data : json
  const { message, detailedMessage, errorCode } = said ?? {}
  const cause = new Error(
    `status ${status}, code ${errorCode}: ${plainText(`${message}; ${detailedMessage}`, 1000)}`,
  )
  // An envelope may report a failure under status 200. If its code is one of HTTP's, that code counts.
  const code = status < 300 && /^[45]\d\d$/.test(String(errorCode)) ? Number(errorCode) : status
  const reason = plainText(message ?? 'no reason given')
  if (code === 401 || code === 403)
    return raise(
      'runtime_failed',
      "XDP refuses this server's credentials. The operator should check XDP_ACCESS_KEY and XDP_SECRET_KEY.",
      cause,
    )
  if (code === 404) return raise('not_found', `XDP: ${reason}`, cause)
  if (code === 400 || code === 422)
    return raise('invalid_request', `XDP refused the request: ${reason}`, cause)
  if (code === 429)
    throw new AppError('overloaded', 'XDP takes no more requests now. Please try again later.', {
      cause,
      retryAfterSeconds: /^\d{1,4}$/.test(retryAfter ?? '') ? Number(retryAfter) : undefined,
    })
  if (code >= 502 && code <= 504) throw unavailable(cause)
  throw failed(cause)
}

/** A page of a result. @throws AppError for a failed query. */
function pageOf(content: unknown): Page {
  const { result, error, status, queryId } = parse(execution, content)
  if (error !== undefined && error !== null && error !== '') throw queryFailed(error)
  if (/^(failed|error|cancell?ed)$/i.test(status ?? '')) throw failed(new Error(`status ${status}`))
  try {
    return readPage({ id: queryId, ...((result ?? content) as object) })
  } catch (thrown) {
    throw thrown instanceof TrinoError ? fromTrinoError(thrown) : failed(thrown)
  }
}

const errorObject = z.object({
  message: z.string(),
  errorName: z.string().optional(),
  errorType: z.string().optional(),
})

/** Trino's error as XDP passes it on: whole, or as a text. A text with a place in the statement is a user's error. */
function queryFailed(error: unknown): AppError {
  const { data } = errorObject.safeParse(typeof error === 'string' ? { message: error } : error)
  if (!data) return failed(new Error(quote(error)))
  const { message, errorName, errorType } = data
  const place = message.search(/\bline \d+:\d+: /)
  if (errorName === undefined && place === -1) return failed(new Error(plainText(message, 1000)))
  return fromTrinoError(
    new TrinoError({
      message: place === -1 ? message : message.slice(place),
      name: errorName ?? 'USER_ERROR',
      type: errorType ?? 'USER_ERROR',
    }),
  )
}

function parse<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw failed(parsed.error)
}

function raise(
  code: 'runtime_failed' | 'not_found' | 'invalid_request',
  message: string,
  cause: Error,
): never {
  throw new AppError(code, message, { cause })
}

function slow(timeoutMs: number): AppError {
  return new AppError(
    'deadline_exceeded',
    `XDP did not answer within ${timeoutMs / 1000} s (XDP_TIMEOUT_MS). Please try again, or ask for less.`,
  )
}

function unavailable(cause: Error): AppError {
  return new AppError('runtime_unavailable', 'XDP cannot be reached. Please try again in a few seconds.', {
    cause,
  })
}

function failed(cause: unknown): AppError {
  return new AppError(
    'runtime_failed',
    "XDP's answer is of no use, or XDP failed. Please try again; if it happens again, this server's log has the cause.",
    { cause },
  )
}
