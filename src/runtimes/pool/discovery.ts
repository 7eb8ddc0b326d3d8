/** The addresses behind a name: every A and AAAA record is one replica. */
import { lookup as systemLookup } from 'node:dns/promises'

/** The name is resolved again this often, and at most this often where connections fail; in milliseconds. */
const EVERY_MS = 5000
const SOONEST_MS = 1000
/**
 * How long the last addresses count after the name is gone. While DNS itself does not answer they count on: a replica that
 * is gone too is found by its failing connections.
 */
export const KEPT_MS = 30_000
/** A Service of more than this many replicas is likely to be another kind of name. */
const AT_MOST = 1000

export type Lookup = (
  host: string,
) => Promise<readonly { readonly address: string; readonly family: number }[]>

export type Discovery = ReturnType<typeof createDiscovery>

/**
 * Resolves the host of a URL at once, and again and again until it is closed.
 * @param options.onFound called after every attempt with the URL of each address, in order; the first time also where there are none.
 */
export function createDiscovery(options: {
  readonly url: string
  readonly onFound: (urls: readonly string[]) => void
  readonly lookup?: Lookup
}) {
  const { url, onFound, lookup = (host) => systemLookup(host, { all: true }) } = options
  const { hostname } = new URL(url)
  let last: readonly string[] = []
  let seenAt = Number.NEGATIVE_INFINITY
  let askedAt = Number.NEGATIVE_INFINITY
  let isAsking = false
  let closed = false
  let timer: NodeJS.Timeout | undefined

  function again(ms: number): void {
    clearTimeout(timer)
    timer = setTimeout(() => void ask(), ms)
    timer.unref()
  }

  async function ask(): Promise<void> {
    if (isAsking || closed) return
    isAsking = true
    askedAt = performance.now()
    try {
      const found = await lookup(hostname)
      last = found.slice(0, AT_MOST).map((each) => urlAt(url, each))
      seenAt = performance.now()
    } catch (error) {
      const { code } = error as { code?: string }
      const isGone = code === 'ENOTFOUND' || code === 'ENODATA'
      if (isGone && performance.now() - seenAt > KEPT_MS) last = []
    }
    isAsking = false
    if (closed) return
    onFound([...new Set(last)].sort())
    again(EVERY_MS)
  }

  void ask()

  return {
    /** A connection failed: the name may have other addresses by now. */
    refresh(): void {
      if (!isAsking && !closed) again(Math.max(0, askedAt + SOONEST_MS - performance.now()))
    },
    close(): void {
      closed = true
      clearTimeout(timer)
    },
  }
}

/** A URL with an address in the place of its host. */
function urlAt(url: string, { address, family }: { address: string; family: number }): string {
  const at = new URL(url)
  at.hostname = family === 6 ? `[${address}]` : address
  return idOf(at.href)
}

/** A replica's URL as all servers write it. */
export function idOf(url: string): string {
  return new URL(url).href.replace(/\/+$/, '')
}
