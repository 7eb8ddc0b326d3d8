/** Signed links: anyone who has one may GET one variant of one picture until the link expires, and nothing else. */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { AppError } from '../errors.ts'
import { isImageId } from './check.ts'

/** The PNG itself, or a smaller WebP. */
export type Variant = 'full' | 'preview'

/** What a link points to. */
export interface LinkTarget {
  readonly id: string
  /** RFC 3339; the link ends at the beginning of that second. */
  readonly expiresAt: string
  /** Default `full`. */
  readonly variant?: Variant
}

/** A link as a client sent it back: the id of the path, and the query as it was written. */
export interface ReceivedLink {
  readonly id: string
  readonly exp: string | undefined
  readonly variant: string | undefined
  readonly sig: string | undefined
}

export interface Links {
  /** The whole URL; undefined while no public URL is known. */
  absolute(target: LinkTarget): string | undefined
  /** The whole URL, else the path on this server: `/images/{id}?exp=...&variant=...&sig=...`. */
  relativeOrAbsolute(target: LinkTarget): string
  /**
   * Returns quietly for a link that this server signed and that has not expired.
   * @throws AppError `forbidden` for one that was changed or made up, `not_found` for one that has expired.
   */
  verify(link: ReceivedLink): void
}

/** Part of what is signed, so that a signature is useless for any other purpose of the same key. */
const PURPOSE = 'diffusers-mcp image link 1'
/** 32 bytes in base64url. */
const SIGNATURE = /^[A-Za-z0-9_-]{43}$/

/**
 * Links signed by HMAC-SHA-256. `keys` gives the current keys: the first signs, all verify, so a key is rotated by
 * putting the new one in front. `publicUrl` gives where clients reach the server, a path prefix included, without a
 * slash at the end. Both are called each time. `now` gives milliseconds since 1970.
 * Signing or verifying throws Error while there is no key, or an empty one.
 */
export function createLinks(options: {
  publicUrl: () => string | undefined
  keys: () => readonly string[]
  now?: () => number
}): Links {
  const { publicUrl, now = Date.now } = options

  function currentKeys(): readonly string[] {
    const keys = options.keys()
    if (keys.length === 0 || keys.includes('')) throw new Error('IMAGE_URL_KEY has no key, or an empty one')
    return keys
  }

  function pathOf({ id, expiresAt, variant = 'full' }: LinkTarget): string {
    const exp = Math.floor(Date.parse(expiresAt) / 1000)
    if (!isImageId(id) || Number.isNaN(exp))
      throw new Error(`No link can be made for ${id} until ${expiresAt}`)
    const sig = sign(currentKeys()[0]!, { id, exp: String(exp), variant })
    return `/images/${id}?exp=${exp}&variant=${variant}&sig=${sig}`
  }

  function absolute(target: LinkTarget): string | undefined {
    const base = publicUrl()
    return base === undefined ? undefined : base + pathOf(target)
  }

  return {
    absolute,

    relativeOrAbsolute: (target) => absolute(target) ?? pathOf(target),

    verify({ id, exp = '', variant = '', sig = '' }) {
      // Tries every key, so that the time taken does not tell which one fits.
      const fits = currentKeys().map((key) => equal(sig, sign(key, { id, exp, variant })))
      if (!fits.includes(true))
        throw new AppError(
          'forbidden',
          'This link is incomplete, was changed, or its key is no longer in use. Copy it whole, or ask for the image again to get a new one.',
        )
      if (Number(exp) * 1000 <= now())
        throw new AppError(
          'not_found',
          'This link has expired. Ask for the image again, or generate it with the same seed.',
        )
    },
  }
}

/**
 * The fields as texts, just as they stand in the link. No field that is signed holds a line break, so a signed text has
 * only one reading, and a link that verifies is as well-formed as the one that was signed.
 */
function sign(key: string, { id, exp, variant }: { id: string; exp: string; variant: string }): string {
  return createHmac('sha256', key).update([PURPOSE, id, exp, variant].join('\n')).digest('base64url')
}

/**
 * Compares in constant time. It compares the texts and not the bytes they stand for: base64url of 32 bytes has spare
 * bits, and a second spelling of a signature is not a signature.
 */
function equal(sig: string, expected: string): boolean {
  return SIGNATURE.test(sig) && timingSafeEqual(Buffer.from(sig), Buffer.from(expected))
}
