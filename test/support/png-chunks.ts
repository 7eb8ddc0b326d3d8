/** The chunks of a PNG (W3C PNG, third edition, section 5.3), and the text that provenance.ts adds, for tests. */

export interface Chunk {
  readonly type: string
  readonly data: Uint8Array
}

/** The chunks of a whole PNG in order. */
export function chunksOf(png: Uint8Array): Chunk[] {
  const bytes = Buffer.from(png)
  const chunks: Chunk[] = []
  for (let at = 8; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at)
    chunks.push({
      type: bytes.toString('latin1', at + 4, at + 8),
      data: bytes.subarray(at + 8, at + 8 + length),
    })
    at += 12 + length
  }
  return chunks
}

/** What a PNG says about how it was made. */
export function readProvenance(png: Uint8Array): Record<string, unknown> {
  const head = 'diffusers-mcp\0\0\0\0\0'
  const text = chunksOf(png)
    .filter(({ type }) => type === 'iTXt')
    .map(({ data }) => Buffer.from(data).toString())
    .find((content) => content.startsWith(head))
  if (text === undefined) throw new Error('The PNG does not say how it was made.')
  return JSON.parse(text.slice(head.length))
}
