/** Pictures as MCP resources: `image://{id}`. */
import { type Caller, isAnonymous } from '../../auth/caller.ts'
import type { ImageStore } from '../../images/image.ts'
import { inlineLoad, type OnSent, type Outgoing } from '../../images/outgoing.ts'
import { base64 } from './image-answer.ts'

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

/**
 * The content of one of the caller's pictures; undefined when there is none at that URI.
 * @throws AppError `rate_limited` or `overloaded` while too much is on its way out already.
 */
export async function readImageResource(options: {
  readonly images: ImageStore
  readonly outgoing: Outgoing
  readonly caller: Caller
  readonly uri: string
  /** Absent where nothing is counted. */
  readonly onSent: OnSent | undefined
}) {
  const { images, outgoing, caller, uri, onSent } = options
  if (!uri.startsWith(SCHEME)) return undefined
  const record = await images.head(uri.slice(SCHEME.length))
  if (!record || record.owner !== caller.id) return undefined
  onSent?.(outgoing.take({ caller }, inlineLoad(record.bytes)))
  const stored = await images.get(record.id)
  return stored && { uri, mimeType: record.media_type, blob: base64(stored.png) }
}
