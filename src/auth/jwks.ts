/** The keys that JWTs are signed with, fetched from the issuer and kept through its outages. */
import { createLocalJWKSet, errors, type JWTVerifyGetKey } from 'jose'
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
 * A key set for jose. Concurrent callers share one fetch. jose has such a set too, but its ages are by the wall clock: a
 * clock that is set back an hour would keep withdrawn keys for that hour, and refuse new ones.
 * The keys throw AppError `runtime_unavailable` before the first successful fetch, and when the last one is a day old.
 */
export function createJwks({ url, log }: { readonly url: string; readonly log: Logger }): JWTVerifyGetKey {
  /** What the issuer said last, and when: by `performance.now()`, as all times here. */
  let last: { readonly keys: JWTVerifyGetKey; readonly at: number } | undefined
  let askedAt = Number.NEGATIVE_INFINITY
  let failedAt = Number.NEGATIVE_INFINITY
  let asking: Promise<void> | undefined

  async function ask(): Promise<void> {
    if (last && performance.now() - last.at >= MAX_STALE_MS) last = undefined
    const kept = last
    if (!kept && performance.now() - failedAt < RETRY_MS) throw unavailable()
    try {
      const response = await fetch(url, {
        headers: { accept: 'application/json, application/jwk-set+json' },
        redirect: 'manual',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      })
      if (response.status !== 200) throw new Error(`it answered ${response.status}`)
      const keys = createLocalJWKSet(JSON.parse(await response.text()))
      last = { keys, at: performance.now() }
    } catch (error) {
      failedAt = performance.now()
      const reason = error instanceof Error ? error.message : String(error)
      if (!kept) {
        log.error({ event: 'JWKS cannot be fetched: no JWT can be checked', url, reason })
        throw unavailable()
      }
      log.warn({
        event: 'JWKS cannot be fetched: the last keys stay',
        url,
        reason,
        age_seconds: Math.round((performance.now() - kept.at) / 1000),
        at_most_seconds: MAX_STALE_MS / 1000,
      })
    } finally {
      askedAt = performance.now()
    }
  }

  function askOnce(): Promise<void> {
    asking ??= ask().finally(() => {
      asking = undefined
    })
    return asking
  }

  return async (header, token) => {
    if (!last || performance.now() - askedAt >= MAX_AGE_MS) await askOnce()
    const { keys } = last as { keys: JWTVerifyGetKey }
    try {
      return await keys(header, token)
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || performance.now() - askedAt < COOL_DOWN_MS)
        throw error
    }
    await askOnce()
    return await (last as { keys: JWTVerifyGetKey }).keys(header, token)
  }
}

const unavailable = () =>
  new AppError(
    'runtime_unavailable',
    'The keys that your token is signed with cannot be fetched from their issuer now. Try again later.',
    { retryAfterSeconds: RETRY_MS / 1000 },
  )
