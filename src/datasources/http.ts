/** HTTP to a data source: bounded answers, one attempt's time limit, and repeats of what may be repeated. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, request } from 'undici'

const ATTEMPT_MS = 30_000
const CONNECT_MS = 5000
const FIRST_PAUSE_MS = 75
const LONGEST_PAUSE_MS = 1000
/** Answered by gateways in front of a healthy server: https://trino.io/docs/current/develop/client-protocol.html */
const INTERMITTENT = [502, 503, 504]

/** There was no whole answer. `message` says why, without any address. */
export class NoAnswer extends Error {
  override readonly name = 'NoAnswer'
}

/** The answer is larger than the caller can use. */
export class AnswerTooLarge extends Error {
  override readonly name = 'AnswerTooLarge'
}

export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
  /** What to send again, for how long (milliseconds): `answers` means a status of 502, 503 or 504, `all` any failure. */
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
   * Sends a request; answers whatever the status. Redirects are not followed: they would carry credentials elsewhere.
   * @throws NoAnswer, AnswerTooLarge, and the signal's reason once it aborts.
   */
  send(request: HttpRequest): Promise<HttpAnswer>
  close(): Promise<void>
}

/** Connections to one data source. `ca`: certificates (PEM) to trust besides the engine's own. */
export function createHttp({ ca, maxBytes }: { ca?: string; maxBytes: number }): Http {
  const agent = new Agent({
    connect: { timeout: CONNECT_MS, ...(ca === undefined ? {} : { ca }) },
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

  return {
    async send(request) {
      const { repeat, signal } = request
      const until = performance.now() + repeat.forMs
      for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
        const answer = await attempt(request).catch((error) => {
          if (error instanceof NoAnswer && repeat.after === 'all') return error
          throw error
        })
        const failed = answer instanceof NoAnswer || INTERMITTENT.includes(answer.status)
        const again = failed && repeat.after !== 'nothing' && performance.now() + pauseMs < until
        if (!again && answer instanceof NoAnswer) throw answer
        if (!again) return answer as HttpAnswer
        await sleep(pauseMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => {
          throw signal.reason
        })
      }
    },
    // Not `close`: that would wait for queries whose callers are gone.
    close: () => agent.destroy(),
  }
}
