/** What an answer of a runtime may say. It reaches callers and picture libraries, so a broken runtime must not say more. */
import { z } from 'zod'
import { AppError } from '../errors.ts'
import { wrongAnswer } from './endpoint.ts'
import { MAX_SIDE, SEED_RANGE } from './request.ts'

/** More than a request may ask for, because some schedulers count each step twice. */
const MAX_STEPS = 1000
const DAY_S = 86_400

const steps = `the number of steps must be a whole number from 1 to ${MAX_STEPS}`
const seed = `the seed must be a whole number from 0 to ${SEED_RANGE - 1}`
const time = 'the time that it took must be a number from 0 to one day'

/** Values beside the picture; each message is a clause that callers may read. */
export const answered = {
  seed: z
    .int(seed)
    .min(0, seed)
    .max(SEED_RANGE - 1, seed),
  steps: z.int(steps).min(1, steps).max(MAX_STEPS, steps),
  inferenceMs: z
    .number(time)
    .min(0, time)
    .max(DAY_S * 1000, time),
  inferenceSeconds: z.number(time).min(0, time).max(DAY_S, time),
}

/** Its own messages name no value of the runtime. */
export function wrongDocument(
  error: unknown,
  otherwise = 'it is not the JSON that this protocol has',
): AppError {
  const issue = error instanceof z.ZodError ? error.issues[0] : undefined
  const isOurs = issue && /^(the |model_name |data )/.test(issue.message)
  return wrongAnswer(isOurs ? issue.message : otherwise, error)
}

/** What kept the picture from being read; the reason may quote the runtime, so it is for the log. */
export function wrongPicture(error: unknown): AppError {
  if (error instanceof AppError) return error
  const { message } = error as Error
  return wrongAnswer(/\bPNG\b/.test(message) ? message : 'there is no picture in it that can be read', error)
}

/**
 * Refuses a picture of another size than was asked for, or than any request may ask for: a few bytes can say that they are
 * gigabytes of pixels.
 * @throws AppError `runtime_failed`.
 */
export function checkSize(
  picture: { readonly width: number; readonly height: number },
  asked: { readonly width?: number; readonly height?: number },
): void {
  const { width, height } = picture
  const isAsked = width === (asked.width ?? width) && height === (asked.height ?? height)
  if (isAsked && width <= MAX_SIDE && height <= MAX_SIDE) return
  const wanted = isAsked
    ? `at most ${MAX_SIDE}x${MAX_SIDE}`
    : `${asked.width ?? 'any'}x${asked.height ?? 'any'}`
  throw wrongAnswer(`the picture has ${width}x${height} pixels instead of ${wanted}`)
}
