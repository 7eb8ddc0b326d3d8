/** Jobs as the book in Valkey keeps them, and as the rest of the server sees them. */
import type { PublicError } from '../../../errors.ts'
import type { ImageFacts, ImageRecord } from '../../../images/image.ts'
import { withoutPrompts } from '../../ended.ts'
import { abandoned, cancelled, expired } from '../../endings.ts'
import type { Job, JobRequest } from '../../job.ts'
import { type LifeState, publicState } from '../../lifecycle.ts'

/** A job as the book keeps it: a hash of strings. */
export type Row = Readonly<Record<string, string | undefined>>

/** @param now the book's clock. The job's expected end is told in this process's own time. */
export function toJob(row: Row, now: number): Job {
  const expectedAt =
    row.expectedAt === undefined ? undefined : performance.now() + Number(row.expectedAt) - now
  const time = (name: string) => (row[name] === undefined ? {} : { [name]: Math.round(Number(row[name])) })
  const job = {
    id: row.id as string,
    imageId: row.imageId as string,
    owner: row.owner as string,
    target: row.target as string,
    request: requestOf(row),
    state: publicState(row.life as LifeState),
    createdAt: Number(row.createdAt),
    ...time('startedAt'),
    ...time('endedAt'),
    deadlineAt: Number(row.deadlineAt),
    ...time('position'),
    ...(row.starting === undefined ? {} : { starting: true as const }),
    ...(expectedAt === undefined ? {} : { expectedAt }),
    ...(row.progress === undefined ? {} : { progress: JSON.parse(row.progress) }),
    ...(publicState(row.life as LifeState) === 'succeeded' ? { image: imageOf(row) } : {}),
  } as Job
  const error = errorOf(row, job)
  return error ? { ...job, error } : job
}

/** Values as JSON, for a hash. */
export function fieldTexts(values: object): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, JSON.stringify(value)]),
  )
}

/** What the book keeps of a picture: what it does not know from the job, and no prompts. */
export function imageFields(record: ImageRecord): Record<string, string> {
  const { id, job_id, owner, target, media_type, ...facts } = withoutPrompts(record)
  return fieldTexts(facts)
}

function imageOf(row: Row): ImageFacts {
  return {
    ...{ id: row.imageId, job_id: row.id, owner: row.owner, media_type: 'image/png', target: row.target },
    ...fieldsOf('i:', row),
  } as ImageFacts
}

/** With its prompts until the job ends. A finished one has what its picture was drawn with. */
function requestOf(row: Row): JobRequest {
  if (row.request !== undefined) return JSON.parse(row.request)
  if (row.life !== 'succeeded') return fieldsOf('r:', row) as unknown as JobRequest
  const { seed, width, height, num_inference_steps, guidance_scale } = imageOf(row)
  return {
    ...{ seed, width, height },
    ...(num_inference_steps === undefined ? {} : { num_inference_steps }),
    ...(guidance_scale === undefined ? {} : { guidance_scale }),
  }
}

function fieldsOf(prefix: string, row: Row): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(row)
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, value]) => [name.slice(prefix.length), JSON.parse(value as string)]),
  )
}

function errorOf(row: Row, job: Job): PublicError | undefined {
  switch (row.reason) {
    case 'cancel':
      return cancelled().toPublic()
    case 'abandon':
      return abandoned().toPublic()
    case 'expire':
      return expired(job).toPublic()
    case 'fail':
      return JSON.parse(row.error as string)
    default:
      return undefined
  }
}
