/**
 * Draws the icons that concepts.txt names as 64x64 pictures with transparency, and says what each is called:
 *
 *   tsx model/render.ts ICONS_FOLDER OUT_FOLDER
 *
 * ICONS_FOLDER is a node_modules with the packages of model/package.json. Writes icons.npy-ready raw RGBA
 * (`icons.rgba`, 64 x 64 x 4 bytes each) and `icons.json` ([{ names, turnable }]) in the same order.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'

const SIDE = 64
const [icons, out] = process.argv.slice(2)
if (!icons || !out) throw new Error('Usage: tsx model/render.ts ICONS_FOLDER OUT_FOLDER')

interface Emoji {
  label: string
  hexcode: string
  skins?: { label: string; hexcode: string }[]
}
interface Drawing {
  body: string
  width?: number
  height?: number
}

const read = (path: string) => JSON.parse(readFileSync(join(icons, path), 'utf8'))
const emojis: Emoji[] = read('emojibase-data/en/data.json')
const set: {
  icons: Record<string, Drawing>
  aliases?: Record<string, { parent: string }>
  width?: number
  height?: number
} = read('@iconify-json/fluent-emoji-flat/icons.json')
const chars: Record<string, string> = read('@iconify-json/fluent-emoji-flat/chars.json')
const plain = (hexcode: string) => hexcode.toLowerCase().replaceAll('-fe0f', '')
const nameOf = new Map(Object.entries(chars).map(([hexcode, name]) => [plain(hexcode), name]))
const hexOf = new Map(emojis.map(({ label, hexcode }) => [label, plain(hexcode)]))

/** The drawing of an emoji. @throws Error where the set has none. */
function drawingOf(label: string): Drawing {
  const name = nameOf.get(hexOf.get(label) ?? '')
  const drawing = name && (set.icons[name] ?? set.icons[set.aliases?.[name]?.parent ?? ''])
  if (!drawing) throw new Error(`There is no drawing of "${label}": see model/concepts.txt.`)
  return drawing
}

const lines = readFileSync(new URL('concepts.txt', import.meta.url), 'utf8')
  .split('\n')
  .filter((line) => line && !line.startsWith('#'))
const pictures: Buffer[] = []
const known: { names: string[] }[] = []
const missing: string[] = []
for (const line of lines) {
  const [label = '', words = ''] = line.split(': ')
  try {
    const { body, width = set.width ?? 32, height = set.height ?? 32 } = drawingOf(label)
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}">${body}</svg>`
    const background = { r: 0, g: 0, b: 0, alpha: 0 }
    pictures.push(
      await sharp(Buffer.from(svg), { density: (72 * SIDE * 4) / width })
        .resize(SIDE, SIDE, { fit: 'contain', background })
        .ensureAlpha()
        .raw()
        .toBuffer(),
    )
    known.push({ names: words.split(', ') })
  } catch (error) {
    missing.push(`${(error as Error).message}`)
  }
}
if (missing.length > 0) throw new Error(missing.join('\n'))
mkdirSync(out, { recursive: true })
writeFileSync(join(out, 'icons.rgba'), Buffer.concat(pictures))
writeFileSync(join(out, 'icons.json'), JSON.stringify(known))
process.stdout.write(`${known.length} icons\n`)
