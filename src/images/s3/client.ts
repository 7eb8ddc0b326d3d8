/** Requests to one bucket of an S3-compatible store: signed, bounded in time, and retried while the store is down. */
import { AwsV4Signer } from 'aws4fetch'
import { sha256 } from '../../hash.ts'
import { retry } from '../../retry.ts'

/** How long a request is retried when its caller names no time, in milliseconds: somebody waits for the answer. */
const RETRY_MS = 3000

const TRANSIENT_STATUS = [500, 502, 503, 504]
/** How stores say that they, or a quota, are full, besides 507. */
const FULL_CODES = [
  'QuotaExceeded',
  'QuotaExceededException',
  'InsufficientStorage',
  'XMinioStorageFull',
  'XMinioAdminBucketQuotaExceeded',
]

/** Why a request failed. Holds no credentials, no headers and nothing of the answer but its error code. */
export class S3Failure extends Error {
  /** HTTP status; undefined when there was no whole answer. */
  readonly status: number | undefined
  /** The store's error code, or that of the network, such as `AccessDenied`, `ECONNREFUSED`, `TimeoutError`. */
  readonly code: string

  constructor({ request, status, code }: { request: string; status?: number; code: string }) {
    super(`S3 ${request}: ${status === undefined ? '' : `${status} `}${code}`)
    this.name = 'S3Failure'
    this.status = status
    this.code = code
  }

  /** True where the store has no room. */
  get full(): boolean {
    return this.status === 507 || FULL_CODES.includes(this.code)
  }

  /** True when the same request may succeed later. */
  get transient(): boolean {
    return (
      this.full ||
      this.status === undefined ||
      TRANSIENT_STATUS.includes(this.status) ||
      this.code === 'SlowDown'
    )
  }
}

/** True for a failure of the store to answer, false for an answer that refuses. */
export function isOutage(error: unknown): boolean {
  return error instanceof S3Failure && error.transient
}

export interface S3Request {
  readonly method: 'GET' | 'PUT' | 'DELETE'
  /** Without one the request goes to the bucket itself. Of characters that a URL keeps as they are. */
  readonly key?: string
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array<ArrayBuffer>
  /** Status codes that are an answer and no failure, besides 2xx. A missing bucket is always a failure. */
  readonly accept?: readonly number[]
  /** Time of `performance.now()` from which a failure is final; 3 seconds from now unless given. */
  readonly until?: number
}

export interface S3Answer {
  readonly status: number
  readonly headers: Headers
  readonly body: Buffer<ArrayBuffer>
}

export type S3Client = ReturnType<typeof createS3Client>

/**
 * A client of the bucket at `bucketUrl` (path style, no slash at the end). The keys are read anew for each request, so
 * that they may be rotated. One attempt takes at most `timeoutMs`, so a request ends `timeoutMs` after its `until`.
 */
export function createS3Client(options: {
  bucketUrl: string
  region: string
  accessKey: () => string
  secretKey: () => string
  /** Bound of one attempt, in milliseconds, its body included. */
  timeoutMs: number
  fetch: typeof fetch
}) {
  const { bucketUrl, region, accessKey, secretKey, timeoutMs, fetch } = options
  const closing = new AbortController()
  /** Keys that the signer derives, one per day. */
  const cache = new Map<string, ArrayBuffer>()

  /** @throws S3Failure where there is no answer. */
  async function ask(request: S3Request, signal: AbortSignal): Promise<Response> {
    const { method, key, query = {}, body } = request
    const url = new URL(key === undefined ? bucketUrl : `${bucketUrl}/${key}`)
    for (const [parameter, value] of Object.entries(query)) url.searchParams.set(parameter, value)
    const signed = await new AwsV4Signer({
      method,
      url: url.href,
      // The store compares the hash with what arrives: a body that was cut or altered is not stored.
      headers: { ...request.headers, 'x-amz-content-sha256': sha256(body ?? '', 'hex') },
      accessKeyId: accessKey(),
      secretAccessKey: secretKey(),
      service: 's3',
      region,
      cache,
    }).sign()
    return await fetch(signed.url, {
      method,
      headers: signed.headers,
      body,
      // A redirect would carry the signature to another host.
      redirect: 'manual',
      signal: AbortSignal.any([closing.signal, signal]),
    }).catch(failed(request))
  }

  /** @throws S3Failure where the answer does not arrive whole, or refuses. */
  async function readWhole(request: S3Request, response: Response): Promise<S3Answer> {
    const { status, headers } = response
    const body = Buffer.from(await response.arrayBuffer().catch(failed(request)))
    const answer = { status, headers, body }
    if (status >= 200 && status < 300) return answer
    const code = elements(body.toString('utf8'), 'Code')[0] ?? ''
    if (request.accept?.includes(status) && code !== 'NoSuchBucket') return answer
    throw new S3Failure({
      request: nameOf(request),
      status,
      code: /^\w{1,64}$/.test(code) ? code : 'without a code',
    })
  }

  async function attempt(request: S3Request): Promise<S3Answer> {
    const signal = AbortSignal.timeout(timeoutMs)
    return await readWhole(request, await ask(request, signal))
  }

  /** Only what comes before the body is bounded in time: its reader may be slow. */
  async function attemptOpen(request: S3Request): Promise<ReadableStream<Uint8Array> | undefined> {
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(new DOMException('late', 'TimeoutError')), timeoutMs)
    try {
      const response = await ask(request, late.signal)
      if (response.ok && response.body) return response.body
      await readWhole(request, response)
      return undefined
    } finally {
      clearTimeout(timer)
    }
  }

  const retried = <T>(request: S3Request, act: (request: S3Request) => Promise<T>): Promise<T> =>
    retry(() => act(request), {
      until: request.until ?? performance.now() + RETRY_MS,
      signal: closing.signal,
      isTransient: isOutage,
    })

  /**
   * Sends a request, and retries after network failures, timeouts, 500, 502, 503, 504 and SlowDown.
   * @throws S3Failure
   */
  const send = (request: S3Request) => retried(request, attempt)

  return {
    send,

    /**
     * As `send`, but with the body as it arrives; undefined for a status of `accept`. Read it to its end or cancel it.
     * @throws S3Failure
     */
    open: (request: S3Request) => retried(request, attemptOpen),

    /**
     * Keys that start with `prefix` and come after `after`, in ascending order, at most `limit` (1-1000).
     * @throws S3Failure
     */
    async list({ prefix, after, limit }: { prefix: string; after?: string; limit: number }) {
      const { body } = await send({
        method: 'GET',
        query: {
          'list-type': '2',
          prefix,
          'max-keys': String(limit),
          ...(after === undefined ? {} : { 'start-after': after }),
        },
      })
      const xml = body.toString('utf8')
      return { keys: elements(xml, 'Key'), more: elements(xml, 'IsTruncated')[0] === 'true' }
    },

    /** Ends what is under way with a failure. */
    close(): void {
      closing.abort()
    },
  }
}

const nameOf = ({ method, key }: S3Request) => `${method} ${key ?? 'bucket'}`

/** Turns what fetch threw into a failure. */
function failed(request: S3Request): (error: unknown) => never {
  return (error) => {
    throw new S3Failure({ request: nameOf(request), code: networkCode(error) })
  }
}

/** Texts of an XML element. Escapes stay: neither our keys nor error codes need any. */
function elements(xml: string, name: string): string[] {
  return [...xml.matchAll(new RegExp(`<${name}>([^<]*)</${name}>`, 'g'))].map((match) => match[1]!)
}

/** `ECONNREFUSED` and the like from the causes of what fetch threw, else the name of the error. */
function networkCode(error: unknown): string {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (typeof code === 'string') return code
  }
  return error instanceof Error ? error.name : 'unknown'
}
