/** Capital letters of 5x7 pixels, for the words in simulated pictures. */

export const GLYPH_WIDTH = 5
export const GLYPH_HEIGHT = 7

/** Per character its seven rows from the top, two hexadecimal digits each; bit 4 is the leftmost pixel. */
const GLYPHS: Readonly<Record<string, string>> = {
  A: '0e11111f111111',
  B: '1e11111e11111e',
  C: '0e11101010110e',
  D: '1e11111111111e',
  E: '1f10101e10101f',
  F: '1f10101e101010',
  G: '0e11101711110f',
  H: '1111111f111111',
  I: '0e04040404040e',
  J: '0702020202120c',
  K: '11121418141211',
  L: '1010101010101f',
  M: '111b1515111111',
  N: '11111915131111',
  O: '0e11111111110e',
  P: '1e11111e101010',
  Q: '0e11111115120d',
  R: '1e11111e141211',
  S: '0f10100e01011e',
  T: '1f040404040404',
  U: '1111111111110e',
  V: '11111111110a04',
  W: '1111111515150a',
  X: '11110a040a1111',
  Y: '1111110a040404',
  Z: '1f01020408101f',
  0: '0e11131519110e',
  1: '040c040404040e',
  2: '0e11010204081f',
  3: '1f02040201110e',
  4: '02060a121f0202',
  5: '1f101e0101110e',
  6: '0608101e11110e',
  7: '1f010204080808',
  8: '0e11110e11110e',
  9: '0e11110f01020c',
  ' ': '00000000000000',
  '.': '00000000000c0c',
  ',': '000000000c0408',
  '-': '0000001f000000',
  "'": '04040800000000',
  '"': '0a0a0a00000000',
  '!': '04040404040004',
  '?': '0e110102040004',
  ':': '000c0c000c0c00',
  ';': '000c0c000c0408',
  '(': '02040808080402',
  ')': '08040202020408',
  '/': '00010204081000',
  '&': '0c12140815120d',
  '+': '0004041f040400',
  '=': '00001f001f0000',
  '#': '0a0a1f0a1f0a0a',
  '%': '18190204081303',
  '*': '0004150e150400',
  _: '0000000000001f',
}

/** Stands for every character that the font has not. */
const BOX = '00001f11111f00'

/** True where the glyph of `character`, a capital, has ink; `x` 0-4 from the left, `y` 0-6 from the top. */
export function hasInk(character: string, x: number, y: number): boolean {
  const rows = GLYPHS[character] ?? BOX
  const row = Number.parseInt(rows.slice(2 * y, 2 * y + 2), 16)
  return ((row >> (GLYPH_WIDTH - 1 - x)) & 1) === 1
}
