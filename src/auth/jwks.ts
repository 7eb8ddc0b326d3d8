/** The keys that JWTs are signed with, fetched from the issuer and kept through its outages. */
import { createLocalJWKSet, createRemoteJWKSet, customFetch, type JWTVerifyGetKey } from 'jose'
import { AppError } from '../errors.ts'
import type { Logger } from '../telemetry/log.ts'

/** How long keys are used before the next fetch, and so how long a withdrawn key stays valid. */
const MAX_AGE_MS = 600_000
/** The pause between two fetches for an unknown key id, so that made-up ids cannot cause more requests. */
const COOL_DOWN_MS = 30_000
/** How long keys are used when the issuer does not answer. */
const MAX_STALE_MS = 24 * 3_600_000
/** The pause between two fetches while there are no keys at all. */
const RETRY_MS = 5_000
const TIMEOUT_MS = 3_000

/**
 * A key set for jose. Concurrent callers share one fetch.
 * The keys throw AppError `runtime_unavailable` before the first successful fetch, and when the last one is a day old.
 */
export function createJwks({ url, log }: { readonly url: string; readonly log: Logger }): JWTVerifyGetKey {
  let last: { readonly body: string; readonly at: number } | undefined
  let failedAt = Number.NEGATIVE_INFINITY

  async function fetchOrKeep(...[address, init]: Parameters<typeof fetch>): Promise<Response> {
    const kept = last && Date.now() - last.at < MAX_STALE_MS ? last : undefined
    if (!kept && Date.now() - failedAt < RETRY_MS) throw unavailable()
    try {
      const response = await fetch(address, init)
      if (response.status !== 200) throw new Error(`it answered ${response.status}`)
      const body = await response.text()
      createLocalJWKSet(JSON.parse(body))
      last = { body, at: Date.now() }
      return new Response(body)
    } catch (error) {
      failedAt = Date.now()
      const reason = error instanceof Error ? error.message : String(error)
      if (!kept) {
        log.error({ event: 'JWKS cannot be fetched: no JWT can be checked', url, reason })
        throw unavailable()
      }
      log.warn({
        event: 'JWKS cannot be fetched: the last keys stay',
        url,
        reason,
        age_seconds: Math.round((Date.now() - kept.at) / 1000),
        at_most_seconds: MAX_STALE_MS / 1000,
      })
      return new Response(kept.body)
    }
  }

  return createRemoteJWKSet(new URL(url), {
    cacheMaxAge: MAX_AGE_MS,
    cooldownDuration: COOL_DOWN_MS,
    timeoutDuration: TIMEOUT_MS,
    [customFetch]: fetchOrKeep,
  })
}

const unavailable = () =>
  new AppError(
    'runtime_unavailable',
    'The keys that your token is signed with cannot be fetched from their issuer now. Try again later.',
    { retryAfterSeconds: RETRY_MS / 1000 },
  )
