import { generate } from '../../jobs/generate.ts'
import type { Jobs } from '../../jobs/job.ts'
import { imageRequest } from '../../runtimes/request.ts'
import type { Target } from '../../runtimes/targets.ts'
import { defineTool } from '../tool.ts'
import { type AnswerParts, imageAnswer, jobResult, progressReporter } from './image-answer.ts'
import { notesOn } from './notes.ts'

/** `generate_image`: a picture, or a handle when the wait budget (milliseconds) is used up. */
export function generateImage(
  parts: AnswerParts & {
    readonly targets: readonly Target[]
    readonly jobs: Jobs
    readonly waitBudgetMs: number
  },
) {
  const [byDefault] = parts.targets
  const draws = byDefault?.pool.description
  return defineTool({
    name: 'generate_image',
    title: 'Generate an image',
    description:
      'Makes a picture from a text prompt. Returns the picture; when it takes longer than this call may wait, ' +
      'returns state "queued" or "running" with a job_id instead: pass that to get_image_job.' +
      (draws ? ` The default model is ${byDefault.name}. ${draws}` : ''),
    scope: 'image:generate',
    annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
    input: imageRequest,
    output: imageAnswer,
    slow: true,
    async run(request, context) {
      const { caller, signal, requestId, deadlineMs, idempotencyKey, waitMs, onProgress } = context
      const job = await generate({
        jobs: parts.jobs,
        request,
        caller,
        submission: { requestId, deadlineMs, idempotencyKey },
        budgetMs: waitMs ?? parts.waitBudgetMs,
        signal,
        onChange: progressReporter(onProgress),
      })
      const { structured, content } = await jobResult(job, parts, context)
      return { structured: { ...structured, ...notesOn(context) }, content }
    },
  })
}
