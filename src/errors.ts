/**
 * The error codes of all transports. A public message says what was wrong and what to do next. The private `cause` goes
 * to the log only.
 */

/** Error codes and the HTTP status that each one answers with. */
export const ERROR_STATUS = {
  invalid_request: 400,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  cancelled: 409,
  too_large: 413,
  unsupported_media_type: 415,
  rate_limited: 429,
  // For the log and the metrics: nobody is left to read this answer. The status is nginx's "client closed request".
  client_left: 499,
  internal: 500,
  runtime_failed: 502,
  overloaded: 503,
  runtime_unavailable: 503,
  deadline_exceeded: 504,
} as const

export type ErrorCode = keyof typeof ERROR_STATUS

/** The part of an error that a caller may see. */
export interface PublicError {
  code: ErrorCode
  message: string
  /** Whole seconds after which a retry makes sense; present for 429 and 503. */
  retry_after_seconds?: number
}

const DEFAULT_RETRY_AFTER_SECONDS = 5

/** An error with a code, a public message and a private cause. */
export class AppError extends Error {
  readonly code: ErrorCode
  /** Whole seconds, at least 1; always set where the status is 429 or 503. */
  readonly retryAfterSeconds: number | undefined
  /** The scope that a `forbidden` caller lacks. */
  readonly missingScope: string | undefined

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; retryAfterSeconds?: number; missingScope?: string } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'AppError'
    this.code = code
    this.missingScope = options.missingScope
    const status = ERROR_STATUS[code]
    this.retryAfterSeconds =
      status === 429 || status === 503
        ? Math.max(1, Math.ceil(options.retryAfterSeconds ?? DEFAULT_RETRY_AFTER_SECONDS))
        : undefined
  }

  get status(): number {
    return ERROR_STATUS[this.code]
  }

  /** True when the operator needs the cause in the log. */
  get isForOperator(): boolean {
    return this.code === 'internal' || (this.status >= 500 && this.cause !== undefined)
  }

  toPublic(): PublicError {
    return {
      code: this.code,
      message: this.message,
      retry_after_seconds: this.retryAfterSeconds,
    }
  }
}

/** The error of a call whose client closed the connection first. */
export function clientLeft(cause?: unknown): AppError {
  return new AppError('client_left', 'The client left before it had its answer.', { cause })
}

/**
 * Anything thrown as an AppError. An unknown error becomes `internal`, and its text stays private.
 * @param signal the call's own signal. An abort that it caused becomes its reason, where that is an AppError.
 */
export function toAppError(error: unknown, signal?: AbortSignal): AppError {
  if (error instanceof AppError) return error
  const isAbort = error instanceof Error && error.name === 'AbortError'
  if (isAbort && signal?.aborted && signal.reason instanceof AppError) return signal.reason
  return new AppError(
    'internal',
    'Something went wrong in the server. Its log has the cause; please try again.',
    {
      cause: error,
    },
  )
}

/**
 * An error as the answer to a JSON-RPC message that was not dispatched.
 * @param id of the message; null where none could be read.
 */
export function rpcError(error: AppError, id: string | number | null = null) {
  const rpcCode = error.code === 'invalid_request' ? -32600 : -32000
  return { jsonrpc: '2.0', id, error: { code: rpcCode, message: error.message, data: error.toPublic() } }
}

/** A value for quoting in a message: JSON of at most 60 characters. */
export function quote(value: unknown): string {
  const text = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? String(value))
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

/** Untrusted text from another system, as one line of at most `max` characters. */
export function plainText(text: string, max = 300): string {
  const line = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').trim()
  return line.length > max ? `${line.slice(0, max - 3)}...` : line
}

/** Secrets in the usual forms, each as one replaced piece. */
const SECRETS: readonly [RegExp, string][] = [
  [/\b(?:bearer|basic)\s+[\w.~+/=-]{6,}/gi, '[secret]'],
  [/\beyJ[\w-]+(?:\.[\w-]*)*/g, '[secret]'],
  // Not of numbers: "tokens: 90" is a reason.
  [
    /(?<![a-z])(token|api[_-]?key|key|secret|password|passwd|pwd|signature|sig|authorization|credential)s?["']?\s*[=:]\s*["']?(?!\d+\b|\[secret)[^\s"',;}&]+/gi,
    '$1=[secret]',
  ],
  [/\b(?:sk|pk|hf|gh[oprsu]|glpat|xox[a-z]|AKIA)[-_A-Za-z0-9]{12,}/g, '[secret]'],
  [/\b(?=[\w+/-]*\d)(?=[\w+/-]*[A-Za-z])[\w+-]{40,}={0,2}/g, '[secret]'],
  [/(\/\/|\s|^)[^\s@"':/]{0,100}:[^\s@"'/]{1,200}@/g, '$1[secret]@'],
]
/** Where systems are: URLs, hosts with ports, addresses, names in private domains, paths. */
const PLACES: readonly [RegExp, string][] = [
  [/\b[a-z][a-z0-9+.-]{0,20}:\/\/[^\s"'<>]+/gi, '[address]'],
  [/\[[0-9a-f:.%]*:[0-9a-f:.%]*\](?::\d+)?/gi, '[address]'],
  [/(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])/gi, '[address]'],
  [/\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b/g, '[address]'],
  [
    /\b(?!(?:width|height|size|seed|steps?|num_inference_steps|guidance_scale|max|min):)[a-z][\w-]*(?:\.[\w-]+)*:\d{2,5}\b/gi,
    '[address]',
  ],
  [
    /\b[a-z0-9][\w-]*(?:\.[\w-]+)*\.(?:local|internal|svc|cluster|lan|corp|intranet|com|net|org|io|dev|cloud)\b/gi,
    '[address]',
  ],
  [/(?<![\w.])(?:~|[A-Za-z]:)?[/\\](?:[\w.@-]+[/\\])+[\w.@-]*/g, '[path]'],
]

const replaceAll = (text: string, patterns: readonly [RegExp, string][]) =>
  patterns.reduce((cleaned, [pattern, by]) => cleaned.replace(pattern, by), text)

/** Untrusted text from another system for the log: one line of at most 2000 characters, without secrets. */
export function textForLog(text: string): string {
  return replaceAll(plainText(text, 2000), SECRETS)
}

/**
 * Untrusted text from another system for callers: as `textForLog`, and without anything that says where systems are. It
 * recognises the usual forms only.
 */
export function textForCallers(text: string, max = 300): string {
  return plainText(replaceAll(textForLog(text), PLACES), max)
}
