/** The HTTP side of a runtime of any dialect: connections, bounded answers, failures as errors of the shared vocabulary. */
import { Agent, type Dispatcher, request } from 'undici'
import { AppError, quote, textForCallers, textForLog } from '../errors.ts'
import { RuntimeError, type Trouble } from './trouble.ts'

export interface EndpointLimits {
  /** Milliseconds until a connection must stand. */
  readonly connectTimeoutMs?: number
  /** Milliseconds without a byte after which an event stream counts as dead. */
  readonly idleTimeoutMs?: number
  /** Largest answer, in bytes. */
  readonly maxResponseBytes?: number
  /** Connections at once; by default as many as there are calls, whose number is limited by admission. */
  readonly connections?: number
}

export type Answer = Dispatcher.ResponseData

export interface SendOptions {
  /** Path with a leading slash, appended to the endpoint's URL. */
  readonly path: string
  /** Sent as JSON by POST; without it the request is a GET. */
  readonly body?: unknown
  readonly accept: string
  readonly requestId?: string
  readonly signal: AbortSignal
}

export interface ReadOptions {
  readonly signal: AbortSignal
  /** Milliseconds without a byte after which the runtime counts as dead; absent: only the signal ends the wait. */
  readonly idleTimeoutMs?: number
  /** A smaller bound than the endpoint's, in bytes. */
  readonly maxBytes?: number
  /** Called with each chunk; returning true ends the reading. What it throws, `read` rejects with. */
  readonly onChunk: (chunk: Buffer) => boolean | undefined
}

export interface Endpoint {
  readonly idleTimeoutMs: number
  /**
   * Sends a request and waits for an answer of status 200; its body has to be read then.
   * @throws AppError `runtime_unavailable` (no connection, none before the answer's headers, 429, 503), `invalid_request`
   * (400 or 422 with a reason), `runtime_failed` (any other status), and the signal's reason once it aborts.
   */
  send(options: SendOptions): Promise<Answer>
  /**
   * Reads a body to its end or until `onChunk` has enough.
   * @throws AppError `runtime_failed` (broken off, idle, too big), and the signal's reason once it aborts.
   */
  read(answer: Answer, options: ReadOptions): Promise<void>
  /**
   * Reads a JSON answer to its end, piece by piece; `onChunk` must not throw.
   * @throws as `read` does, and `runtime_failed` for another media type.
   */
  readJson(
    answer: Answer,
    options: { signal: AbortSignal; maxBytes?: number; onChunk: (chunk: Buffer) => void },
  ): Promise<void>
  /**
   * What a GET of `path` answers within 3 s, parsed from JSON.
   * @throws AppError `runtime_unavailable` for any failure, and the signal's reason once it aborts.
   */
  probe(options: { path: string; signal: AbortSignal }): Promise<unknown>
  close(): Promise<void>
}

export interface EndpointOptions extends EndpointLimits {
  /** http:// or https://, a path is kept. */
  readonly url: string
  /** The host, with its port, that requests and the certificate name where the URL has an address; absent: the URL's. */
  readonly host?: string
  /** Sent as a bearer token. */
  readonly apiKey?: string
  /** What to tell the caller about a 404. */
  readonly notFound: string
}

const MAX_RESPONSE_BYTES = 64 * 1024 * 1024
/** Pieces of one answer: 64 MiB in the packets of a network are 48,000. Each one costs CPU time, however small it is. */
const MAX_PIECES = 200_000
const PROBE_TIMEOUT_MS = 3000
/** A list of models is far smaller. */
const PROBE_MAX_BYTES = 1024 * 1024
const REFUSAL_MAX_BYTES = 16 * 1024
/** How long the end of a body may take once its content is complete, before the connection is given up. */
const LINGER_MS = 1000
const MAX_RETRY_AFTER_SECONDS = 3600

/** A host without its port. */
const nameOf = (host: string) => host.replace(/:\d+$/, '')

/** Connections to one runtime. */
export function createEndpoint(options: EndpointOptions): Endpoint {
  const { connectTimeoutMs = 5000, idleTimeoutMs = 60_000, maxResponseBytes = MAX_RESPONSE_BYTES } = options
  const { host } = options
  const base = options.url.replace(/\/+$/, '')
  // A generation may take a quarter of an hour in silence: only the caller's signal ends it, no timeout does.
  const agent = new Agent({
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: { timeout: connectTimeoutMs, ...(host && { servername: nameOf(host) }) },
    connections: options.connections,
  })
  const commonHeaders = {
    ...(host && { host }),
    ...(options.apiKey === undefined ? {} : { authorization: `Bearer ${options.apiKey}` }),
  }

  const endpoint: Endpoint = {
    idleTimeoutMs,
    async send({ path, body, accept, requestId, signal }) {
      const answer = await request(base + path, {
        dispatcher: agent,
        signal,
        method: body === undefined ? 'GET' : 'POST',
        headers: {
          ...commonHeaders,
          accept,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...(requestId === undefined ? {} : { 'x-request-id': requestId }),
        },
        body: body === undefined ? null : JSON.stringify(body),
      }).catch((error) => {
        throw signal.aborted ? signal.reason : unanswered(error)
      })
      // A body that breaks while nobody reads it must not end the process; a reader gets the error as well.
      answer.body.on('error', () => {})
      if (answer.statusCode === 200) return answer
      throw await refusal(answer, { signal, notFound: options.notFound })
    },

    read: (answer, { signal, idleTimeoutMs, maxBytes = maxResponseBytes, onChunk }) =>
      readBody(answer, { signal, maxBytes, idleTimeoutMs, onChunk }),

    async readJson(answer, { signal, maxBytes, onChunk }) {
      const type = mediaType(answer)
      if (type !== 'application/json') {
        answer.body.destroy()
        throw wrongAnswer('it is not JSON', `the answer has the type ${quote(type)}`)
      }
      await endpoint.read(answer, {
        signal,
        maxBytes,
        onChunk: (chunk) => {
          onChunk(chunk)
          return undefined
        },
      })
    },

    async probe({ path, signal }) {
      const bounded = AbortSignal.any([signal, AbortSignal.timeout(PROBE_TIMEOUT_MS)])
      try {
        const answer = await endpoint.send({ path, accept: 'application/json', signal: bounded })
        const chunks: Buffer[] = []
        await endpoint.readJson(answer, {
          signal: bounded,
          maxBytes: PROBE_MAX_BYTES,
          onChunk: (chunk) => chunks.push(chunk),
        })
        return JSON.parse(Buffer.concat(chunks).toString('utf8'))
      } catch (error) {
        if (signal.aborted) throw signal.reason
        throw error instanceof AppError && error.code === 'runtime_unavailable'
          ? error
          : runtimeUnavailable(error)
      }
    },

    close: () => agent.close(),
  }
  return endpoint
}

/** The runtime's answer is of no use. `cause` is for the log. */
export function runtimeFailed(cause: unknown, trouble: Trouble = 'failed'): AppError {
  return new RuntimeError(
    'runtime_failed',
    'The diffusion runtime failed to make the picture. Please try again; if it happens again, its log has the cause.',
    { trouble, cause: typeof cause === 'string' ? new Error(cause) : cause },
  )
}

/**
 * The runtime answered, and wrongly.
 * @param what says what is wrong, without a word of the runtime: callers read it. `cause` is for the log.
 */
export function wrongAnswer(what: string, cause: unknown = what, trouble: Trouble = 'failed'): AppError {
  return new RuntimeError(
    'runtime_failed',
    `The diffusion runtime gave a wrong answer: ${what}. Please try again; if it happens again, the operator has to look at the runtime.`,
    { trouble, cause: typeof cause === 'string' ? new Error(cause) : cause },
  )
}

/** The runtime takes no request now. */
export function runtimeUnavailable(
  cause: unknown,
  { retryAfterSeconds }: { retryAfterSeconds?: number } = {},
): AppError {
  return new RuntimeError(
    'runtime_unavailable',
    'The diffusion runtime is busy, not ready, or short of memory for a picture of this size. Please try again in a few seconds, or ask for a smaller picture.',
    {
      trouble: 'busy',
      cause: typeof cause === 'string' ? new Error(cause) : cause,
      retryAfterSeconds,
    },
  )
}

/** The runtime refused the parameters for a reason that the caller may read, cleaned. */
export function refused(reason: string): AppError {
  // The caller knows of no instances: they are how this client packs the request.
  const sentence = textForCallers(reason).replace(/^instances(\[0\]|\.0)\./, '')
  return new AppError('invalid_request', `The diffusion runtime refused the request: ${sentence}`, {
    cause: new Error(textForLog(reason)),
  })
}

/** The media type of an answer, in lower case, without parameters. */
export function mediaType(answer: Answer): string {
  return (header(answer, 'content-type') ?? '').split(';')[0]!.trim().toLowerCase()
}

/** The Content-Length of an answer; undefined without one. */
export function contentLength(answer: Answer): number | undefined {
  const bytes = Number(header(answer, 'content-length'))
  return bytes <= MAX_RESPONSE_BYTES ? bytes : undefined
}

function unanswered(error: Error & { code?: string }): AppError {
  // The answer was not HTTP, and a retry in five seconds would not change that.
  if (error.code?.startsWith('HPE_') || error.code === 'UND_ERR_HEADERS_OVERFLOW') return runtimeFailed(error)
  return new RuntimeError(
    'runtime_unavailable',
    'The diffusion runtime cannot be reached; it may be starting. Please try again in a few seconds.',
    { trouble: 'unreachable', cause: error },
  )
}

async function refusal(
  answer: Answer,
  { signal, notFound }: { signal: AbortSignal; notFound: string },
): Promise<AppError> {
  const { statusCode } = answer
  const body: Buffer[] = []
  let bytes = 0
  // A refusal that breaks off is still a refusal: its status says so.
  await readBody(answer, {
    signal,
    maxBytes: Number.POSITIVE_INFINITY,
    idleTimeoutMs: LINGER_MS,
    onChunk: (chunk) => {
      body.push(chunk)
      bytes += chunk.length
      return bytes >= REFUSAL_MAX_BYTES
    },
  }).catch((error) => {
    if (signal.aborted) throw error
  })
  const text = Buffer.concat(body).toString('utf8')
  const cause = `status ${statusCode}: ${textForLog(text)}`
  const reason = statusCode === 400 || statusCode === 422 ? reasonIn(text) : undefined
  if (reason) return refused(reason)
  if (statusCode === 404)
    return new RuntimeError('runtime_unavailable', notFound, {
      trouble: 'unreachable',
      cause: new Error(cause),
    })
  // A gateway answers 502 and 504 for a runtime that is gone.
  if (statusCode !== 503 && statusCode !== 429)
    return runtimeFailed(cause, statusCode === 502 || statusCode === 504 ? 'unreachable' : 'failed')
  return runtimeUnavailable(cause, { retryAfterSeconds: secondsIn(header(answer, 'retry-after')) })
}

/** The reason in `{"error": "..."}` (KServe) or `{"error": {"message": "..."}}` (OpenAI). */
function reasonIn(text: string): string | undefined {
  try {
    const { error } = JSON.parse(text)
    const reason = typeof error === 'string' ? error : error?.message
    return typeof reason === 'string' ? reason : undefined
  } catch {
    return undefined
  }
}

/** Retry-After (RFC 9110, 10.2.3), a number of seconds or a date, as seconds from now, at most an hour. */
function secondsIn(retryAfter: string | undefined): number | undefined {
  if (retryAfter === undefined) return undefined
  const seconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) : (Date.parse(retryAfter) - Date.now()) / 1000
  return Number.isNaN(seconds) ? undefined : Math.min(seconds, MAX_RETRY_AFTER_SECONDS)
}

function header(answer: Answer, name: string): string | undefined {
  const value = answer.headers[name]
  return Array.isArray(value) ? value[0] : value
}

interface ReadBodyOptions {
  readonly signal: AbortSignal
  readonly maxBytes: number
  readonly idleTimeoutMs: number | undefined
  readonly onChunk: (chunk: Buffer) => boolean | undefined
}

function readBody(
  { body }: Answer,
  { signal, maxBytes, idleTimeoutMs, onChunk }: ReadBodyOptions,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let bytes = 0
    let pieces = 0
    let settled = false
    let timer: ReturnType<typeof setTimeout> | undefined
    const giveUpAfter = (ms: number, reason: string) => {
      clearTimeout(timer)
      timer = setTimeout(() => fail(runtimeFailed(reason, 'lost')), ms)
    }
    const enough = () => {
      settled = true
      resolve()
      // The content is complete. To read the rest keeps the connection for the next call.
      giveUpAfter(LINGER_MS, 'nobody reads this')
    }
    const fail = (error: unknown) => {
      clearTimeout(timer)
      settled = true
      reject(error)
      body.destroy()
    }
    if (idleTimeoutMs !== undefined) giveUpAfter(idleTimeoutMs, `no byte for ${idleTimeoutMs} ms`)
    body.on('data', (chunk: Buffer) => {
      if (settled) return
      bytes += chunk.length
      pieces += 1
      if (bytes > maxBytes) return fail(wrongAnswer(`it has more than ${maxBytes} bytes`))
      if (pieces > MAX_PIECES) return fail(wrongAnswer(`it came in more than ${MAX_PIECES} pieces`))
      if (idleTimeoutMs !== undefined) giveUpAfter(idleTimeoutMs, `no byte for ${idleTimeoutMs} ms`)
      try {
        if (onChunk(chunk)) enough()
      } catch (error) {
        fail(error)
      }
    })
    body.on('end', () => {
      clearTimeout(timer)
      resolve()
    })
    body.on('error', (error) => fail(signal.aborted ? signal.reason : runtimeFailed(error, 'lost')))
  })
}
