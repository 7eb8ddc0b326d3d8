import { createHmac } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { createLinks, type ReceivedLink } from './links.ts'

const KEY = 'k'.repeat(32)
const EXPIRES = '2026-03-01T12:00:00.900Z'
const EXP = 1_772_366_400

/** Links on a clock that stands ten seconds before the expiry. */
function linksWith({
  keys = [KEY],
  publicUrl = undefined as string | undefined,
  now = (EXP - 10) * 1000,
} = {}) {
  return createLinks({ keys: () => keys, publicUrl: () => publicUrl, now: () => now })
}

function received(link: string): ReceivedLink & Record<'id' | 'exp' | 'variant' | 'sig', string> {
  const { pathname, searchParams } = new URL(link, 'http://localhost')
  const { exp = '', variant = '', sig = '' } = Object.fromEntries(searchParams)
  return { id: pathname.split('/').at(-1)!, exp, variant, sig }
}

const picture = { id: 'picture-1', expiresAt: EXPIRES }
const forbidden = expect.objectContaining({ code: 'forbidden' })

describe('a link', () => {
  it('is a path with expiry, variant and an HMAC-SHA-256 of both and the id', () => {
    const text = `diffusers-mcp image link 1\npicture-1\n${EXP}\nfull`
    const sig = createHmac('sha256', KEY).update(text).digest('base64url')
    expect(linksWith().relativeOrAbsolute(picture)).toBe(
      `/images/picture-1?exp=${EXP}&variant=full&sig=${sig}`,
    )
  })

  it('is absolute under the public URL, with its path prefix', () => {
    const links = linksWith({ publicUrl: 'https://example.org/tools/images-of-ann' })
    const path = linksWith().relativeOrAbsolute(picture)
    expect(links.absolute(picture)).toBe(`https://example.org/tools/images-of-ann${path}`)
    expect(links.relativeOrAbsolute(picture)).toBe(links.absolute(picture))
  })

  it('is never absolute while no public URL is known', () => {
    expect(linksWith().absolute(picture)).toBeUndefined()
  })

  it('opens what it was made for', () => {
    const links = linksWith()
    for (const variant of ['full', 'preview'] as const) {
      const link = received(links.relativeOrAbsolute({ ...picture, variant }))
      expect(link.variant).toBe(variant)
      expect(() => links.verify(link)).not.toThrow()
    }
  })

  it('opens until the second of its expiry, and is then not found', () => {
    const link = received(linksWith().relativeOrAbsolute(picture))
    expect(() => linksWith({ now: EXP * 1000 - 1 }).verify(link)).not.toThrow()
    expect(() => linksWith({ now: EXP * 1000 }).verify(link)).toThrow(
      expect.objectContaining({ code: 'not_found' }),
    )
  })

  it('tells nobody that it has expired unless it was real', () => {
    const link = received(linksWith().relativeOrAbsolute(picture))
    const forged = { ...link, sig: 'A'.repeat(43) }
    expect(() => linksWith({ now: EXP * 1000 }).verify(forged)).toThrow(forbidden)
  })

  const full = received(linksWith().relativeOrAbsolute(picture))
  const preview = received(linksWith().relativeOrAbsolute({ ...picture, variant: 'preview' }))
  // The last of 43 characters has two spare bits: its neighbour in the alphabet stands for the same bytes.
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const respelled = full.sig.slice(0, 42) + alphabet[alphabet.indexOf(full.sig[42]!) + 1]

  const changes: [string, Partial<ReceivedLink>][] = [
    ['another id', { id: 'picture-2' }],
    ['a longer id', { id: 'picture-1x' }],
    ['no id', { id: '' }],
    ['an id that is a path', { id: '../picture-1' }],
    ['another expiry', { exp: String(EXP + 1) }],
    ['an expiry with a leading zero', { exp: `0${EXP}` }],
    ['an expiry in another notation', { exp: `${EXP}.0` }],
    ['an expiry that is no number', { exp: 'never' }],
    ['no expiry', { exp: undefined }],
    ['the other variant', { variant: 'preview' }],
    ['a variant in capitals', { variant: 'FULL' }],
    ['an unknown variant', { variant: 'thumb' }],
    ['no variant', { variant: undefined }],
    ['fields that run into each other', { id: `picture-1\n${EXP}`, exp: '', variant: 'full' }],
    ['the signature of the other variant', { sig: preview.sig }],
    ['a signature with its last bit changed', { sig: respelled }],
    ['a signature in capitals', { sig: full.sig.toUpperCase() }],
    ['a padded signature', { sig: `${full.sig}=` }],
    ['a signature with a line break', { sig: `${full.sig}\n` }],
    ['a signature twice', { sig: full.sig + full.sig }],
    ['a signature of a megabyte', { sig: 'A'.repeat(2 ** 20) }],
    ['a cut signature', { sig: full.sig.slice(0, 42) }],
    ['a signature in hexadecimal', { sig: Buffer.from(full.sig, 'base64url').toString('hex') }],
    ['a signature of 43 characters and more bytes', { sig: 'é'.repeat(43) }],
    ['an empty signature', { sig: '' }],
    ['no signature', { sig: undefined }],
  ]
  it.each(changes)('is refused with %s', (_, change) => {
    expect(() => linksWith().verify(full)).not.toThrow()
    expect(() => linksWith().verify({ ...full, ...change })).toThrow(forbidden)
  })

  it('is refused under another key', () => {
    expect(() => linksWith({ keys: ['x'.repeat(32)] }).verify(full)).toThrow(forbidden)
  })

  it('made with a key stays good while that key is second, and no longer', () => {
    const next = 'n'.repeat(32)
    const rotated = linksWith({ keys: [next, KEY] })
    expect(() => rotated.verify(full)).not.toThrow()
    const signed = received(rotated.relativeOrAbsolute(picture))
    expect(() => linksWith({ keys: [next] }).verify(signed)).not.toThrow()
    expect(() => linksWith({ keys: [next] }).verify(full)).toThrow(forbidden)
  })

  it('follows keys and public URL that change while the server runs', () => {
    let keys = [KEY]
    let publicUrl: string | undefined
    const links = createLinks({ keys: () => keys, publicUrl: () => publicUrl, now: () => (EXP - 10) * 1000 })
    const link = received(links.relativeOrAbsolute(picture))
    keys = ['x'.repeat(32)]
    publicUrl = 'https://example.org'
    expect(() => links.verify(link)).toThrow(forbidden)
    expect(links.absolute(picture)).toMatch(/^https:\/\/example\.org\/images\//)
  })

  it.each([[[]], [['']], [[KEY, '']]])('is neither made nor checked with the keys %j', (keys) => {
    expect(() => linksWith({ keys }).relativeOrAbsolute(picture)).toThrow('IMAGE_URL_KEY')
    expect(() => linksWith({ keys }).verify(full)).toThrow('IMAGE_URL_KEY')
  })

  it.each([
    { id: 'a/b', expiresAt: EXPIRES },
    { id: 'a', expiresAt: 'soon' },
  ])('is not made for %j', (target) => {
    expect(() => linksWith().relativeOrAbsolute(target)).toThrow('No link can be made')
  })
})
