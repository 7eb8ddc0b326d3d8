/** Pictures as MCP resources: `image://{id}`. */
import { type Caller, isAnonymous } from '../../auth/caller.ts'
import type { ImageStore } from '../../images/image.ts'

const SCHEME = 'image://'

/** The entry of `resources/templates/list`. */
export const imageTemplate = {
  uriTemplate: `${SCHEME}{id}`,
  name: 'image',
  title: 'A generated image',
  description: 'The full PNG of a picture that generate_image made; id is its image_id.',
  mimeType: 'image/png',
}

/** The caller's newest pictures as resources. Anonymous callers get none, because they would see each other's. */
export async function listImageResources({ images, caller }: { images: ImageStore; caller: Caller }) {
  if (isAnonymous(caller)) return []
  const { records } = await images.list(caller.id, { limit: 100 })
  return records.map((record) => ({
    uri: SCHEME + record.id,
    name: `${record.id}.png`,
    title: record.prompt.slice(0, 80),
    mimeType: record.media_type,
    size: record.bytes,
  }))
}

/** The content of one of the caller's pictures; undefined when there is none at that URI. */
export async function readImageResource(options: { images: ImageStore; caller: Caller; uri: string }) {
  const { images, caller, uri } = options
  if (!uri.startsWith(SCHEME)) return undefined
  const stored = await images.get(uri.slice(SCHEME.length))
  if (!stored || stored.record.owner !== caller.id) return undefined
  const { buffer, byteOffset, byteLength } = stored.png
  return {
    uri,
    mimeType: stored.record.media_type,
    blob: Buffer.from(buffer, byteOffset, byteLength).toString('base64'),
  }
}
