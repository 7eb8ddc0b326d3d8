/** How an error is answered over HTTP: a problem (RFC 9457), or a JSON-RPC error at /mcp. */
import type { Context } from 'hono'
import { z } from 'zod'
import { challengeOf, type ResourcePath } from '../auth/protected-resource.ts'
import { type AppError, ERROR_STATUS, type ErrorCode, rpcError, toAppError } from '../errors.ts'
import type { Logger } from '../telemetry/log.ts'
import type { AppEnv } from './context.ts'
import { clientSignal } from './leaving.ts'

/** RFC 9457. */
export const problemAnswer = z.object({
  type: z.literal('about:blank'),
  title: z.string(),
  status: z.int(),
  detail: z.string().describe('What was wrong, and what to do next.'),
  code: z.enum(Object.keys(ERROR_STATUS) as [ErrorCode, ...ErrorCode[]]),
  retry_after_seconds: z.int().optional(),
  request_id: z.string(),
})

/** The app's error handler. */
export function answerErrors({
  publicUrl,
  log,
}: {
  readonly publicUrl: () => string | undefined
  readonly log: Logger
}): (thrown: Error, c: Context<AppEnv>) => Response {
  return (thrown, c) => {
    const known = toAppError(thrown, clientSignal(c))
    const error = known.code === 'client_left' ? c.var.reasonOfClosing() : known
    if (error.isForOperator)
      log.error({ event: 'request failed', request_id: c.var.requestId, err: error.cause })
    if (error.retryAfterSeconds !== undefined) c.header('Retry-After', String(error.retryAfterSeconds))
    // The rest of an over-long body must not be read as the next request.
    if (error.code === 'too_large') c.header('Connection', 'close')
    const isMcp = c.req.path === '/mcp'
    const path: ResourcePath = isMcp ? '/mcp' : ''
    const presented = c.req.header('authorization') !== undefined
    const challenge = challengeOf(error, { publicUrl: publicUrl(), path, presented })
    if (challenge) c.header('WWW-Authenticate', challenge)
    const body = isMcp ? rpcError(error) : problemOf(error, c.var.requestId)
    return c.newResponse(JSON.stringify(body), error.status as 400, {
      'Content-Type': isMcp ? 'application/json' : 'application/problem+json',
    })
  }
}

/** `detail` is the public message. */
function problemOf(error: AppError, requestId: string): z.output<typeof problemAnswer> {
  const { message: detail, ...rest } = error.toPublic()
  return {
    type: 'about:blank',
    title: error.code.replaceAll('_', ' '),
    status: error.status,
    detail,
    ...rest,
    request_id: requestId,
  }
}
