/** Pictures and data over REST. */
import http, { type RefinedResponse, type ResponseType } from 'k6/http'
import { baseUrl, imageRequest, REQUEST_TIMEOUT, TIMEOUT_SECONDS, WAIT_SECONDS } from './ask.ts'
import { AUTHORIZATION, setting } from './environment.ts'
import {
  type ErrorAnswer,
  failed,
  type ImageAnswer,
  type Outcome,
  outcomeOfAnswer,
  outcomeOfError,
} from './outcome.ts'

const JSON_BODY = { 'Content-Type': 'application/json', ...AUTHORIZATION }
/** What the statuses mean is for the outcome to say; k6's own http_req_failed would count refusals. */
const ANY_STATUS = http.expectedStatuses({ min: 200, max: 599 })

export const params = (name: string, headers: Record<string, string>) => ({
  headers,
  timeout: REQUEST_TIMEOUT,
  responseCallback: ANY_STATUS,
  tags: { name },
})

/** A picture by `POST /api/images`; a handle is followed to its end. */
export function restPicture(): Outcome {
  const base = baseUrl()
  const wait = { Prefer: `wait=${WAIT_SECONDS}` }
  const deadline = { 'X-Request-Timeout': String(TIMEOUT_SECONDS) }
  let response = http.post(
    `${base}/api/images`,
    JSON.stringify(imageRequest()),
    params('POST /api/images', { ...JSON_BODY, ...wait, ...deadline }),
  )
  for (let answer = bodyOf<ImageAnswer>(response); response.status === 202 && answer; ) {
    response = http.get(
      `${base}/api/jobs/${answer.job_id}`,
      params('GET /api/jobs/{id}', { ...AUTHORIZATION, ...wait }),
    )
    answer = bodyOf<ImageAnswer>(response)
    if (answer?.state !== 'queued' && answer?.state !== 'running') break
  }
  if (response.status !== 200) return refusalOrFailure(response)
  return outcomeOfAnswer(bodyOf<ImageAnswer>(response), (answer) => readPicture(base, answer))
}

/** The stored picture, whole. */
export function readPicture(base: string, { image_id }: ImageAnswer): ArrayBuffer | string {
  const response = http.get(`${base}/images/${image_id}`, {
    ...params('GET /images/{id}', AUTHORIZATION),
    responseType: 'binary',
  })
  return response.status === 200 && response.body
    ? response.body
    : `GET /images/${image_id} answered ${response.status}`
}

/** A query by `POST /api/trino/query`. */
export function trinoQuery(): Outcome {
  const body = JSON.stringify({ query: setting('TRINO_QUERY') })
  const response = http.post(`${baseUrl()}/api/trino/query`, body, params('POST /api/trino/query', JSON_BODY))
  return dataOutcome(response, 'rows')
}

/** A page of datastores by `GET /api/xdp/datastores`. */
export function xdpDatastores(): Outcome {
  const response = http.get(
    `${baseUrl()}/api/xdp/datastores?size=5`,
    params('GET /api/xdp/datastores', AUTHORIZATION),
  )
  return dataOutcome(response, 'datastores')
}

function dataOutcome(response: RefinedResponse<'text'>, member: string): Outcome {
  if (response.status === 404)
    return failed('the server has no such data tool: leave trino or xdp out of MIX')
  if (response.status !== 200) return refusalOrFailure(response)
  const rows = bodyOf<Record<string, unknown>>(response)?.[member]
  return Array.isArray(rows) ? { state: 'delivered' } : failed(`no ${member} in the answer`)
}

function refusalOrFailure(response: RefinedResponse<ResponseType>): Outcome {
  if (response.status === 0) return failed(`no answer: ${response.error}`)
  const retryAfter = Number(response.headers['Retry-After'])
  return outcomeOfError(bodyOf<ErrorAnswer>(response) ?? {}, retryAfter)
}

function bodyOf<T>(response: RefinedResponse<ResponseType>): T | undefined {
  try {
    return response.json() as T
  } catch {
    return undefined
  }
}
