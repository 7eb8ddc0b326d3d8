/** Finds out who sends a request: a caller with a token, or the holder of a signed link. */
import type { Context, MiddlewareHandler } from 'hono'
import type { Authenticate } from '../auth/authenticate.ts'
import type { Caller } from '../auth/caller.ts'
import type { Held } from '../auth/held.ts'
import { METADATA_PATH } from '../auth/protected-resource.ts'
import type { Asker, RateLimit } from '../auth/rate-limit.ts'
import { AppError } from '../errors.ts'
import type { Links, ReceivedLink } from '../images/links.ts'
import type { AppEnv } from './context.ts'
import { onAnswerEnd } from './leaving.ts'
import { PROBE_PATHS } from './operations.ts'
import { peerAddress } from './peer.ts'
import { authorizationOfProtocols } from './websocket/websockets.ts'

/** Open to everybody. All other paths are closed, also those that no route knows. */
const OPEN_PATHS: ReadonlySet<string> = new Set([...PROBE_PATHS, METADATA_PATH, `${METADATA_PATH}/mcp`])

/**
 * Sets `caller`, or `linkedImage` for a signed link. Charges the rate limit, except for a link that is right, and counts the
 * request as held until its answer has ended.
 */
export function identifyCaller(parts: {
  readonly authenticate: Authenticate
  readonly rateLimit: RateLimit
  readonly held: Held
  readonly links: Pick<Links, 'verify'>
}): MiddlewareHandler<AppEnv> {
  const { authenticate, rateLimit, held, links } = parts
  const hold = (c: Context<AppEnv>, asker: Asker) => onAnswerEnd(c, held.hold(asker))
  return async (c, next) => {
    if (OPEN_PATHS.has(c.req.path)) return await next()
    const address = peerAddress(c)
    // A failed attempt counts for its network, so that nobody can use up the limit of another caller.
    const failed = (error: unknown): never => {
      rateLimit.charge({ address })
      throw error
    }
    const link = linkOf(c)
    if (link) {
      try {
        links.verify(link)
      } catch (error) {
        failed(error)
      }
      hold(c, { address })
      c.set('linkedImage', link.id)
      return await next()
    }
    const caller = await authenticateRequest(c, authenticate).catch(failed)
    const asker = { caller, address }
    rateLimit.charge(asker)
    hold(c, asker)
    c.set('caller', caller)
    await next()
  }
}

async function authenticateRequest(c: Context, authenticate: Authenticate): Promise<Caller> {
  // RFC 6750, section 2.3, advises against it: URLs end up in logs and histories.
  if (c.req.query('access_token') !== undefined)
    throw new AppError(
      'unauthenticated',
      'A token in the URL is refused, and should be replaced: send the header "Authorization: Bearer <token>".',
    )
  const inProtocols = c.req.path === '/ws' ? c.req.header('sec-websocket-protocol') : undefined
  return await authenticate(c.req.header('authorization') ?? authorizationOfProtocols(inProtocols))
}

/** A signed link permits to GET one picture, and nothing else. */
function linkOf(c: Context): ReceivedLink | undefined {
  const id = c.req.method === 'GET' ? /^\/images\/([^/]+)$/.exec(c.req.path)?.[1] : undefined
  const { exp, variant = 'full', sig } = c.req.query()
  return id === undefined || sig === undefined ? undefined : { id, exp, variant, sig }
}
