/** What colour a picture is, from its pixels. */
import sharp from 'sharp'

/** How far a channel stands above the others, of 255, for its colour to be seen; and how many pixels it takes. */
const APART = 50
const SHARE = 0.05

const COLOURS = ['red', 'green', 'blue'] as const

/**
 * Which of red, green and blue more pixels clearly are than of the others: that channel stands above both others.
 * `none` where hardly any pixel has a colour: a gray picture, or noise that averages out.
 */
export async function dominantColour(picture: Buffer): Promise<(typeof COLOURS)[number] | 'none'> {
  const { data, info } = await sharp(picture)
    .removeAlpha()
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true })
  const pixels = info.width * info.height
  const counts = COLOURS.map((_, channel) => {
    let count = 0
    for (let at = 0; at < data.length; at += 3) {
      const [value, one, other] = [0, 1, 2].map((step) => data[at + ((channel + step) % 3)]!)
      if (value! - Math.max(one!, other!) > APART) count += 1
    }
    return count
  })
  const most = Math.max(...counts)
  return most > SHARE * pixels ? COLOURS[counts.indexOf(most)]! : 'none'
}
