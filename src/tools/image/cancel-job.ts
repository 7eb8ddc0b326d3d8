import { z } from 'zod'
import type { Links } from '../../images/links.ts'
import type { Jobs } from '../../jobs/job.ts'
import { defineTool } from '../tool.ts'
import { jobHandle } from './get-job.ts'
import { describeJob, imageAnswer } from './image-answer.ts'

/** `cancel_image_job`: ends a job for all its waiters, and in the runtime. */
export function cancelImageJob({ jobs, links }: { readonly jobs: Jobs; readonly links: Links }) {
  return defineTool({
    name: 'cancel_image_job',
    title: 'Cancel an image job',
    description: 'Stops a job that generate_image started. A picture that is already finished stays.',
    scope: 'image:generate',
    annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
    input: z.strictObject(jobHandle),
    output: imageAnswer,
    async run({ job_id }, { caller }) {
      const job = await jobs.cancel(job_id, caller)
      const text =
        job.state === 'cancelled'
          ? `Job ${job.id} is cancelled.`
          : `Job ${job.id} had already ended: ${job.state}.`
      return { structured: describeJob(job, links.absolute), content: [{ type: 'text', text }] }
    },
  })
}
