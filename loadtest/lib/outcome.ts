/** What became of a call: the picture, a polite refusal, or a failure; the same for every interface. */
import { faultOfPng } from './picture.ts'

export type Outcome =
  | { readonly state: 'delivered'; readonly picture?: Picture }
  /** `polite`: with a time after which a retry makes sense. */
  | {
      readonly state: 'refused'
      readonly code: string
      readonly polite: boolean
      readonly perMinute: boolean
    }
  | { readonly state: 'failed'; readonly why: string }

export interface Picture {
  /** The server's own figures. */
  readonly queuedMs: number
  readonly inferenceMs: number
  /** Looks at the picture itself: what is wrong with it, or nothing. */
  look(): string | undefined
}

/** The flat shape in which the server answers a generation (src/tools/image/image-answer.ts), as far as it is used here. */
export interface ImageAnswer {
  readonly state: string
  readonly job_id: string
  readonly image_id?: string
  readonly width?: number
  readonly height?: number
  readonly queued_ms?: number
  readonly inference_ms?: number
  readonly error?: { readonly code: string }
}

export interface ErrorAnswer {
  readonly code?: string
  readonly message?: string
  readonly detail?: string
  readonly retry_after_seconds?: number
}

export const failed = (why: string): Outcome => ({ state: 'failed', why: why.slice(0, 200) })

/** What admission control answers past capacity. Everything else that is no picture is a failure. */
const REFUSALS = ['overloaded', 'rate_limited']

/** An error in the server's vocabulary. `retryAfterSeconds`: as the transport tells it. */
export function outcomeOfError(
  { code = 'no code', message, detail = message }: ErrorAnswer,
  retryAfterSeconds: number | undefined,
): Outcome {
  if (!REFUSALS.includes(code)) return failed(`${code}: ${detail}`)
  return {
    state: 'refused',
    code,
    polite: (retryAfterSeconds ?? 0) >= 1,
    perMinute: detail?.includes('RATE_LIMIT_PER_MINUTE') ?? false,
  }
}

/** A generation that should have succeeded. `read` gets the picture's bytes, or says why it cannot. */
export function outcomeOfAnswer(
  answer: ImageAnswer | undefined,
  read: (answer: ImageAnswer) => ArrayBuffer | string,
): Outcome {
  if (answer?.state !== 'succeeded' || answer.queued_ms === undefined || answer.inference_ms === undefined)
    return failed(answer ? `state ${answer.state} ${answer.error?.code ?? ''}` : 'no picture in the answer')
  const { queued_ms: queuedMs, inference_ms: inferenceMs, width = 0, height = 0 } = answer
  const look = () => {
    const bytes = read(answer)
    return typeof bytes === 'string' ? bytes : faultOfPng(bytes, { width, height })
  }
  return { state: 'delivered', picture: { queuedMs, inferenceMs, look } }
}
