/** HTTP to a data source: bounds the size of answers and the time of an attempt, and retries what may be repeated. */
import { Agent, request } from 'undici'
import { retry } from '../retry.ts'

const ATTEMPT_MS = 30_000
const CONNECT_MS = 5000
const FIRST_PAUSE_MS = 75
const LONGEST_PAUSE_MS = 1000
/** Answered by gateways in front of a healthy server: https://trino.io/docs/current/develop/client-protocol.html */
const INTERMITTENT = [502, 503, 504]

/** There is no whole answer. `message` says why, without any address. */
export class NoAnswer extends Error {
  override readonly name = 'NoAnswer'
}

/** The answer is larger than the caller can use. */
export class AnswerTooLarge extends Error {
  override readonly name = 'AnswerTooLarge'
}

/** An answer of a gateway, which may be another one at the next attempt. */
class Intermittent extends Error {
  readonly answer: HttpAnswer
  constructor(answer: HttpAnswer) {
    super(`status ${answer.status}`)
    this.answer = answer
  }
}

export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
  /**
   * After what to retry, and for how long in milliseconds. `answers` means a status of 502, 503 or 504, `all` means
   * these and no answer at all.
   */
  readonly repeat: { readonly after: 'answers' | 'all' | 'nothing'; readonly forMs: number }
  readonly signal: AbortSignal
}

export interface HttpAnswer {
  readonly status: number
  readonly retryAfter: string | undefined
  readonly text: string
}

export interface Http {
  /**
   * Sends a request; resolves with an answer of any status. It does not follow redirects: they would carry credentials
   * elsewhere.
   * @throws NoAnswer, AnswerTooLarge, and the signal's reason once it aborts.
   */
  send(request: HttpRequest): Promise<HttpAnswer>
  /** Sends a request whose outcome nobody needs, such as one that stops a query. */
  sendInBackground(request: HttpRequest): void
  /** Waits for what was sent in the background, and ends everything else. */
  close(): Promise<void>
}

/** Connections to one data source. `ca`: certificates (PEM) to trust besides the engine's own. */
export function createHttp({ ca, maxBytes }: { ca?: string; maxBytes: number }): Http {
  const agent = new Agent({
    connect: { timeout: CONNECT_MS, ca },
    headersTimeout: 0,
    bodyTimeout: 0,
  })

  async function attempt({ method, url, headers, body, signal }: HttpRequest): Promise<HttpAnswer> {
    const bounded = AbortSignal.any([signal, AbortSignal.timeout(ATTEMPT_MS)])
    try {
      const answer = await request(url, {
        dispatcher: agent,
        method,
        headers,
        body: body ?? null,
        signal: bounded,
      })
      const chunks: Buffer[] = []
      let bytes = 0
      for await (const chunk of answer.body) {
        bytes += chunk.length
        if (bytes > maxBytes) throw new AnswerTooLarge(`more than ${maxBytes} bytes`)
        chunks.push(chunk)
      }
      const retryAfter = answer.headers['retry-after']
      return {
        status: answer.statusCode,
        retryAfter: Array.isArray(retryAfter) ? retryAfter[0] : retryAfter,
        text: Buffer.concat(chunks).toString('utf8'),
      }
    } catch (error) {
      if (signal.aborted) throw signal.reason
      if (error instanceof AnswerTooLarge) throw error
      const { code, name } = error as Error & { code?: string }
      throw new NoAnswer(bounded.aborted ? `no answer within ${ATTEMPT_MS / 1000} s` : (code ?? name))
    }
  }

  async function send(request: HttpRequest): Promise<HttpAnswer> {
    const { repeat, signal } = request
    const isTransient = (error: unknown) =>
      (error instanceof Intermittent && repeat.after !== 'nothing') ||
      (error instanceof NoAnswer && repeat.after === 'all')
    try {
      return await retry(
        async () => {
          const answer = await attempt(request)
          if (INTERMITTENT.includes(answer.status)) throw new Intermittent(answer)
          return answer
        },
        {
          isTransient,
          until: performance.now() + repeat.forMs,
          signal,
          firstPauseMs: FIRST_PAUSE_MS,
          longestPauseMs: LONGEST_PAUSE_MS,
        },
      )
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof Intermittent) return error.answer
      throw error
    }
  }

  const background = new Set<Promise<unknown>>()

  return {
    send,

    sendInBackground(request) {
      const sent = send(request)
        .catch(() => {})
        .finally(() => background.delete(sent))
      background.add(sent)
    },

    async close() {
      await Promise.all(background)
      // Not `close`: it would wait for queries whose callers are gone.
      await agent.destroy()
    },
  }
}
