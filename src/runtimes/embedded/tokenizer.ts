/** Turns text into tokens as CLIP does: byte pairs, joined in the order in which they were learned. */
import type { AboutModel, Vocabulary } from './model.ts'

/** Contractions, words, single digits, and runs of other signs: the pattern of CLIP's tokenizer. */
const PIECE = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu
const WORD_END = '</w>'

/** A function from a text to the model's token ids: start, words, and ends up to the model's positions. */
export function createTokenizer(
  { vocab, merges }: Vocabulary,
  { positions, startToken, endToken }: Pick<AboutModel, 'positions' | 'startToken' | 'endToken'>,
): (text: string) => number[] {
  const ranks = new Map(merges.map(([left, right], rank) => [`${left} ${right}`, rank]))

  function split(piece: string): string[] {
    const letters = Array.from(new TextEncoder().encode(piece), (byte) => BYTE_LETTERS[byte] as string)
    const parts = [...letters.slice(0, -1), `${letters.at(-1)}${WORD_END}`]
    for (;;) {
      let best = -1
      let bestRank = Number.POSITIVE_INFINITY
      for (let i = 0; i + 1 < parts.length; i += 1) {
        const rank = ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Number.POSITIVE_INFINITY
        if (rank < bestRank) {
          best = i
          bestRank = rank
        }
      }
      if (best < 0) return parts
      parts.splice(best, 2, `${parts[best]}${parts[best + 1]}`)
    }
  }

  return (text) => {
    const ids = [startToken]
    // A word makes one token or more, so there is no need to look at more words than positions.
    for (const [piece] of text.normalize('NFC').toLowerCase().matchAll(PIECE)) {
      if (ids.length >= positions) break
      ids.push(...split(piece.slice(0, MAX_PIECE)).map((part) => vocab[part] ?? endToken))
    }
    const read = ids.slice(0, positions - 1)
    return [...read, ...new Array<number>(positions - read.length).fill(endToken)]
  }
}

/** Longer pieces are not words, and the time to join their pairs grows with the square of the length. */
const MAX_PIECE = 64

/** GPT-2's letters for bytes: printable ones stand for themselves, the others for letters from 256 on. */
const BYTE_LETTERS = (() => {
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
    return String.fromCodePoint(printable ? byte : next++)
  })
})()
