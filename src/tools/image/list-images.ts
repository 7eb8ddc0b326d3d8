import { z } from 'zod'
import { type Caller, isAnonymous } from '../../auth/caller.ts'
import { AppError } from '../../errors.ts'
import type { ImageRecord, ImageStore } from '../../images/image.ts'
import type { Links } from '../../images/links.ts'
import { defineTool } from '../tool.ts'

/** Arguments of a listing, for the tool and for REST. */
export const listing = z.strictObject({
  limit: z.int().min(1).max(100).default(20).describe('How many, 1-100.'),
  after: z.string().min(1).max(200).optional().describe('The `next` of an earlier page.'),
})

/** A picture in the answer to its owner. */
export const listedImage = z.object({
  image_id: z.string(),
  job_id: z.string(),
  prompt: z.string(),
  negative_prompt: z.string().optional(),
  seed: z.int(),
  width: z.int(),
  height: z.int(),
  steps: z.int().optional(),
  guidance_scale: z.number().optional(),
  model: z.string(),
  target: z.string(),
  inference_ms: z.number().optional(),
  bytes: z.int(),
  created_at: z.string(),
  expires_at: z.string(),
  url: z.string().optional(),
})

/** A page of pictures. */
export const listedPage = z.object({ images: z.array(listedImage), next: z.string().optional() })

/** A stored picture as its owner sees it. */
export function describeImage(
  record: ImageRecord,
  link: (image: { id: string; expiresAt: string }) => string | undefined,
): z.output<typeof listedImage> {
  const { id, owner: _, media_type: __, num_inference_steps, ...rest } = record
  const url = link({ id, expiresAt: record.expires_at })
  return {
    image_id: id,
    ...rest,
    steps: num_inference_steps,
    url,
  }
}

/**
 * One page of the caller's pictures, newest first.
 * @throws AppError `forbidden` without authentication, because callers would see each other's pictures.
 */
export async function pageOfImages(options: {
  readonly images: ImageStore
  readonly caller: Caller
  readonly page: z.output<typeof listing>
  readonly link: (image: { id: string; expiresAt: string }) => string | undefined
}) {
  const { images, caller, page, link } = options
  if (isAnonymous(caller))
    throw new AppError(
      'forbidden',
      'Listing is off without authentication, because callers could not be told apart. Set MCP_AUTH_TOKEN and send it as a bearer token.',
    )
  const { records, next } = await images.list(caller.id, page)
  return { images: records.map((record) => describeImage(record, link)), next }
}

/** `list_images`: the caller's own pictures. */
export function listImages({ images, links }: { readonly images: ImageStore; readonly links: Links }) {
  return defineTool({
    name: 'list_images',
    title: 'List my images',
    description:
      'Lists the pictures you generated that have not expired, newest first. Needs authentication, but not over stdio.',
    scope: 'image:read',
    annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
    input: listing,
    output: listedPage,
    async run(page, { caller }) {
      const structured = await pageOfImages({ images, caller, page, link: links.absolute })
      const lines = structured.images.map((image) => `- ${image.image_id}: ${image.prompt.slice(0, 80)}`)
      const text = lines.length > 0 ? lines.join('\n') : 'You have no pictures, or they have expired.'
      return { structured, content: [{ type: 'text', text }] }
    },
  })
}
