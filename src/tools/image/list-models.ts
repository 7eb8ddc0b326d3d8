import { z } from 'zod'
import type { Jobs } from '../../jobs/job.ts'
import type { Target } from '../../runtimes/targets.ts'
import { defineTool } from '../tool.ts'

const model = z.object({
  name: z.string().describe('Write it in `model` of generate_image.'),
  default: z.boolean(),
  kind: z.string(),
  description: z.string().optional().describe('What it draws, and how to ask for it.'),
  queued: z.int(),
  running: z.int(),
  concurrency: z.int(),
  defaults: z.record(z.string(), z.unknown()),
})

/** `list_image_models`: the models and how busy they are. */
export function listImageModels({
  targets,
  jobs,
}: {
  readonly targets: readonly Target[]
  readonly jobs: Jobs
}) {
  return defineTool({
    name: 'list_image_models',
    title: 'List image models',
    description: 'Lists the models that generate_image can use, their defaults and how busy they are.',
    scope: 'image:read',
    annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
    input: z.strictObject({}),
    output: z.object({ models: z.array(model) }),
    async run() {
      const queues = new Map(jobs.queue().map((queue) => [queue.target, queue]))
      const models = targets.map((target, index) => ({
        name: target.name,
        default: index === 0,
        kind: target.kind,
        description: target.pool.description || undefined,
        queued: queues.get(target.name)?.queued ?? 0,
        running: queues.get(target.name)?.running ?? 0,
        concurrency: queues.get(target.name)?.concurrency ?? target.concurrency,
        defaults: { ...target.defaults },
      }))
      const lines = models.map(
        (m) =>
          `- ${m.name}${m.default ? ' (default)' : ''}: ${m.kind}, ${m.running} running, ${m.queued} waiting` +
          (m.description ? `. ${m.description}` : ''),
      )
      return { structured: { models }, content: [{ type: 'text', text: lines.join('\n') }] }
    },
  })
}
