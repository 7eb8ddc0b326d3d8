/** MCP prompts that help people start. */
import { z } from 'zod'
import { parseInput } from './tool.ts'

const illustrate = z.strictObject({
  subject: z.string().min(1).max(500),
  style: z.string().min(1).max(200).optional(),
})

/** Entries of `prompts/list`. */
export const PROMPTS = [
  {
    name: 'illustrate',
    title: 'Illustrate something',
    description: 'Turns a subject into a good image prompt, generates it and offers variations.',
    arguments: [
      { name: 'subject', description: 'What to show, in your words.', required: true },
      { name: 'style', description: 'For example: watercolour, photo, flat icon.', required: false },
    ],
  },
]

/**
 * The messages of a prompt; undefined when there is none of that name.
 * @throws AppError `invalid_request` for wrong arguments.
 */
export function getPrompt(name: string, args: unknown) {
  if (name !== 'illustrate') return undefined
  const { subject, style } = parseInput(illustrate, args ?? {})
  const text =
    `Make a picture of: ${subject}${style ? `, in the style of ${style}` : ''}. ` +
    'First write one vivid prompt (subject, setting, light, style; under 60 words), or a plainer one where generate_image ' +
    'says that its model wants that; then call generate_image with it. ' +
    'If the answer is a job_id, wait with get_image_job. Show the picture, tell me its seed, ' +
    'and offer two variations: the same seed with a changed prompt, and the same prompt with another seed.'
  return {
    description: PROMPTS[0]?.description as string,
    messages: [{ role: 'user' as const, content: { type: 'text' as const, text } }],
  }
}
