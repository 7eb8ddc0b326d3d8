import { hasEnded, type Jobs } from '../../jobs/job.ts'
import { imageRequest } from '../../runtimes/request.ts'
import type { Target } from '../../runtimes/targets.ts'
import { defineTool } from '../tool.ts'
import { type AnswerParts, awaitJob, handleResult, imageAnswer, pictureResult } from './image-answer.ts'

/** `generate_image`: a picture, or within the wait budget (milliseconds) a handle to it. */
export function generateImage(
  parts: AnswerParts & {
    readonly targets: readonly Target[]
    readonly jobs: Jobs
    readonly waitBudgetMs: number
  },
) {
  const [byDefault] = parts.targets
  const draws = byDefault?.runtime.description
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
    async run(request, { caller, signal, requestId, deadlineMs, idempotencyKey, waitMs, onProgress }) {
      const waiter = await parts.jobs.submit(request, caller, {
        requestId,
        ...(deadlineMs === undefined ? {} : { deadlineMs }),
        ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
      })
      try {
        const job = await awaitJob({
          watch: waiter.watch,
          budgetMs: waitMs ?? parts.waitBudgetMs,
          signal,
          onProgress,
        })
        if (hasEnded(job)) return await pictureResult(job, parts)
        await waiter.detach()
        return handleResult(job, parts)
      } finally {
        await waiter.leave()
      }
    },
  })
}
