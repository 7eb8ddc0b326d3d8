/** Checks Host and Origin headers, against DNS rebinding and foreign web pages. */
import { AppError, quote } from '../errors.ts'

const LOOPBACK_HOSTS = ['localhost', '127.0.0.1', '[::1]']

export interface OriginOptions {
  /** True where the server listens on loopback only. */
  readonly loopback: boolean
  /** More host names. If absent, any is served, except on loopback: Services, probes and routes have many names. */
  readonly allowedHosts: readonly string[] | undefined
  readonly allowedOrigins: readonly string[]
  readonly publicUrl: string | undefined
}

/** Checks a request's headers. A missing Origin passes: no browser's script sent it. @throws AppError `forbidden`. */
export type CheckOrigin = (request: {
  host?: string
  origin?: string
  /** The request target, as it was sent. In absolute form it names a host, which HTTP puts before the header (RFC 9112, 3.2.2). */
  target?: string
}) => void

/** A check of Host and Origin headers. */
export function createOriginCheck(options: OriginOptions): CheckOrigin {
  const { loopback, allowedHosts, allowedOrigins, publicUrl } = options
  const own = publicUrl === undefined ? undefined : new URL(publicUrl)
  const hosts =
    loopback || allowedHosts
      ? new Set([...LOOPBACK_HOSTS, ...(allowedHosts ?? []), ...(own ? [own.hostname] : [])])
      : undefined
  const origins = new Set([...allowedOrigins, ...(own ? [own.origin] : [])])

  return ({ host, origin, target = '/' }) => {
    const authority = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(target)?.[1]
    for (const named of authority === undefined ? [host] : [host, authority])
      if (hosts && !hosts.has(hostname(named)))
        throw new AppError(
          'forbidden',
          `Host ${quote(named ?? '')} is not served here; add it to ALLOWED_HOSTS if it should be.`,
        )
    if (origin === undefined || origins.has(origin.toLowerCase())) return
    if (loopback && LOOPBACK_HOSTS.includes(hostname(origin.replace(/^https?:\/\//, '')))) return
    throw new AppError(
      'forbidden',
      `Origin ${quote(origin)} is not allowed; add it to ALLOWED_ORIGINS if it should be.`,
    )
  }
}

function hostname(host: string | undefined): string {
  try {
    const url = new URL(`http://${host}`)
    // An honest client sends a plain authority, without credentials or a path.
    return url.pathname === '/' && url.username === '' && url.search === '' ? url.hostname : ''
  } catch {
    return ''
  }
}
