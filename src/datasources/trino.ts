/**
 * Client of a Trino cluster: https://trino.io/docs/current/develop/client-protocol.html. A POST registers a statement.
 * It runs only while somebody follows `nextUri`, and a DELETE of `nextUri` stops it. `nextUri` is a key to the query:
 * anyone who has it can read the result. This client follows it on the configured origin only, and never logs or
 * returns it.
 */
import { readFileSync } from 'node:fs'
import { AppError, plainText } from '../errors.ts'
import { AnswerTooLarge, createHttp, type HttpAnswer, type HttpRequest, NoAnswer } from './http.ts'
import { fromTrinoError, queryTooLong, TrinoError } from './trino-error.ts'
import {
  createCollector,
  type Page,
  parseExactJson,
  type QueryEngine,
  type QueryOptions,
  readPage,
} from './trino-result.ts'

/** A page is about 1 MB; one row of this size is more than any answer may hold. In bytes. */
const PAGE_MAX_BYTES = 64 * 2 ** 20
/** How long a coordinator may be away in the middle of a query, in milliseconds. */
const REPEAT_MS = 5000
const CANCEL_MS = 5000
const SOURCE = 'diffusers-mcp'

export interface TrinoOptions {
  /** The http:// or https:// URL of the coordinator, or of the load balancer in front of it. */
  readonly url: string
  /** Absent only with `jwt`: then Trino takes the user from the token. */
  readonly user?: string
  /** Called for each request, so that the password may be rotated. */
  readonly password?: () => string
  readonly jwt?: () => string
  /** File with certificates (PEM) to trust besides the engine's own. */
  readonly caFile?: string
}

export interface Trino extends QueryEngine {
  /** @throws AppError `runtime_unavailable` while the coordinator cannot be reached or starts. */
  check(options: { signal: AbortSignal }): Promise<void>
  close(): Promise<void>
}

/** A Trino cluster. @throws Error when `caFile` cannot be read. */
export function createTrino({ url, user, password, jwt, caFile }: TrinoOptions): Trino {
  const http = createHttp({ maxBytes: PAGE_MAX_BYTES, ca: caFile && readFileSync(caFile, 'utf8') })
  const { origin } = new URL(url)

  const headers = (): Record<string, string> => ({
    ...(user === undefined ? {} : { 'x-trino-user': user }),
    ...(jwt ? { authorization: `Bearer ${jwt()}` } : {}),
    ...(password
      ? { authorization: `Basic ${Buffer.from(`${user}:${password()}`).toString('base64')}` }
      : {}),
  })

  async function pageOf(request: HttpRequest): Promise<Page> {
    const answer = await http.send(request).catch((error) => {
      throw error instanceof NoAnswer ? unavailable(error) : error
    })
    if (answer.status !== 200) throw refusal(answer)
    try {
      const page = readPage(parseExactJson(answer.text))
      if (page.nextUri && new URL(page.nextUri).origin !== origin) throw new Error(FOREIGN_NEXT_URI)
      return page
    } catch (error) {
      throw error instanceof TrinoError ? fromTrinoError(error) : failed(error)
    }
  }

  const next = (nextUri: string, signal: AbortSignal) =>
    pageOf({
      method: 'GET',
      url: nextUri,
      headers: headers(),
      repeat: { after: 'all', forMs: REPEAT_MS },
      signal,
    })

  /**
   * Stops a query that nobody waits for any more. It does not matter if that fails: a coordinator that is gone has no
   * query to stop, and Trino itself ends a query that nobody follows.
   */
  const cancel = (nextUri: string) =>
    http.sendInBackground({
      method: 'DELETE',
      url: nextUri,
      headers: headers(),
      repeat: { after: 'all', forMs: REPEAT_MS },
      signal: AbortSignal.timeout(CANCEL_MS),
    })

  return {
    async query(sql, options) {
      const { timeoutMs, limits } = options
      const signal = AbortSignal.any([options.signal, AbortSignal.timeout(timeoutMs)])
      const reason = () =>
        options.signal.aborted ? options.signal.reason : queryTooLong({ afterMs: timeoutMs })
      signal.throwIfAborted()
      const collector = createCollector(limits)
      let nextUri: string | undefined
      try {
        // The signal does not end this request: only its answer says how to stop the query.
        const registered = pageOf({
          method: 'POST',
          url: `${url}/v1/statement`,
          headers: { ...headers(), ...sessionHeaders(options), 'content-type': 'text/plain; charset=utf-8' },
          body: sql,
          // If Trino registers the statement twice, it runs once: only one of the two is followed.
          repeat: { after: 'answers', forMs: REPEAT_MS },
          signal: AbortSignal.timeout(timeoutMs + CANCEL_MS),
        })
        let page = await unlessAborted(registered, signal).catch((error) => {
          registered.then(({ nextUri }) => nextUri && cancel(nextUri)).catch(() => {})
          throw error
        })
        for (;;) {
          nextUri = page.nextUri ?? undefined
          if (!collector.add(page) || nextUri === undefined) return collector.result()
          page = await next(nextUri, signal)
        }
      } catch (error) {
        if (signal.aborted) throw reason()
        if (error instanceof AnswerTooLarge) return collector.result('bytes')
        if (error instanceof AppError && error.cause instanceof TrinoError) nextUri = undefined
        throw error
      } finally {
        if (nextUri !== undefined) cancel(nextUri)
      }
    },

    async check({ signal }) {
      // Without credentials: a query shows whether they are right.
      const answer = await http
        .send({
          method: 'GET',
          url: `${url}/v1/info`,
          headers: {},
          repeat: { after: 'nothing', forMs: 0 },
          signal,
        })
        .catch((error) => {
          throw error instanceof NoAnswer ? unavailable(error) : error
        })
      if (answer.status !== 200 || !/"starting"\s*:\s*false/.test(answer.text))
        throw unavailable(new Error(`/v1/info answers ${answer.status}: ${plainText(answer.text, 200)}`))
    },

    close: () => http.close(),
  }
}

const FOREIGN_NEXT_URI =
  'Trino names another origin than TRINO_URL in nextUri. Set TRINO_URL to the address that Trino knows itself by; ' +
  'behind a proxy set http-server.process-forwarded=true in Trino.'

/** https://trino.io/docs/current/develop/client-protocol.html#client-request-headers */
function sessionHeaders({ catalog, schema, timeoutMs, requestId }: QueryOptions): Record<string, string> {
  return {
    'x-trino-source': SOURCE,
    'x-trino-trace-token': requestId,
    // Without it Trino cuts timestamps to milliseconds.
    'x-trino-client-capabilities': 'PARAMETRIC_DATETIME',
    'x-trino-session': `query_max_run_time=${timeoutMs}ms`,
    ...(catalog === undefined ? {} : { 'x-trino-catalog': catalog }),
    ...(schema === undefined ? {} : { 'x-trino-schema': schema }),
  }
}

function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

function refusal({ status, text, retryAfter }: HttpAnswer): AppError {
  const cause = new Error(`status ${status}: ${plainText(text, 500)}`)
  if (status === 401 || status === 403)
    return new AppError(
      'runtime_failed',
      "Trino refuses this server's credentials. The operator should check TRINO_USER and TRINO_PASSWORD or TRINO_JWT.",
      { cause },
    )
  // For example a session property that this cluster does not have. Only Trino's own words, not the page of a proxy.
  if (status === 400 && !text.includes('<'))
    return new AppError('invalid_request', `Trino refused the request: ${plainText(text)}`, { cause })
  if (status === 404 || status === 410)
    return new AppError(
      'runtime_unavailable',
      'Trino does not know the query any more; it may have restarted. Please try again.',
      { cause },
    )
  if (status === 429)
    return new AppError('overloaded', 'Trino takes no more queries now. Please try again later.', {
      cause,
      retryAfterSeconds: /^\d{1,4}$/.test(retryAfter ?? '') ? Number(retryAfter) : undefined,
    })
  return status >= 502 && status <= 504 ? unavailable(cause) : failed(cause)
}

function unavailable(cause: Error): AppError {
  return new AppError(
    'runtime_unavailable',
    'Trino cannot be reached; it may be starting. Please try again in a few seconds.',
    { cause },
  )
}

function failed(cause: unknown): AppError {
  return new AppError(
    'runtime_failed',
    "Trino's answer is of no use. Please try again; if it happens again, this server's log has the cause.",
    { cause },
  )
}
