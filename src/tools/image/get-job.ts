import { z } from 'zod'
import { followJob } from '../../jobs/follow.ts'
import type { Jobs } from '../../jobs/job.ts'
import { defineTool } from '../tool.ts'
import { type AnswerParts, imageAnswer, jobResult, progressReporter } from './image-answer.ts'

/** The argument of the tools that take a handle. */
export const jobHandle = {
  job_id: z.string().min(1).max(100).describe('The job_id that generate_image returned.'),
}

/** `get_image_job`: waits for a job's picture within the wait budget (milliseconds). Leaving does not cancel the job. */
export function getImageJob(parts: AnswerParts & { readonly jobs: Jobs; readonly waitBudgetMs: number }) {
  return defineTool({
    name: 'get_image_job',
    title: 'Get an image by its job',
    description:
      'Waits for the picture of a job_id that generate_image returned, and returns it, or the state so far. ' +
      'Waiting or giving up does not affect the job.',
    scope: 'image:read',
    annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
    input: z.strictObject({
      ...jobHandle,
      wait_seconds: z
        .number()
        .min(0)
        .max(3600)
        .optional()
        .describe(
          'The longest wait, in seconds; 0 answers at once. The default, and the maximum, is what the server allows one call.',
        ),
    }),
    output: imageAnswer,
    slow: true,
    async run({ job_id, wait_seconds }, context) {
      const { caller, signal, onProgress } = context
      const job = await followJob({
        watch: (over) => parts.jobs.watch(job_id, caller, over),
        budgetMs: Math.min(parts.waitBudgetMs, (wait_seconds ?? Number.POSITIVE_INFINITY) * 1000),
        signal,
        onChange: progressReporter(onProgress),
      })
      return await jobResult(job, parts, context)
    },
  })
}
