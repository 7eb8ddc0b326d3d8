/** What a request says besides its JSON body: its query, and the headers that say how to answer. */
import type { Context } from 'hono'
import { z } from 'zod'
import { AppError } from '../../errors.ts'
import { idempotencyKeySchema, parseInput, type ToolContext } from '../../tools/tool.ts'
import type { AppEnv } from '../context.ts'

const MAX_WAIT_SECONDS = 3600
const MAX_TIMEOUT_SECONDS = 86_400

/** Query parameters as numbers. A text that is no number stays, so that the refusal can quote it. */
export function numbers(given: Record<string, string | undefined>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(given)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, /^-?\d+$/.test(value!) ? Number(value) : value]),
  )
}

/** True where `Accept` names this very media type. */
export function accepts(c: Context, mediaType: string): boolean {
  return (c.req.header('accept') ?? '').split(',').some((part) => part.split(';')[0]?.trim() === mediaType)
}

/** RFC 7240: `respond-async` and `wait=N` (seconds). @throws AppError `invalid_request` for another N. */
export function preferenceOf(c: Context): { respondAsync: boolean; waitMs?: number } {
  const preferences = (c.req.header('prefer') ?? '').split(',').map((part) => part.trim().toLowerCase())
  const wait = preferences.find((part) => part.startsWith('wait='))?.slice('wait='.length)
  return {
    respondAsync: preferences.includes('respond-async'),
    waitMs: wait === undefined ? undefined : secondsToMs('Prefer: wait', wait, MAX_WAIT_SECONDS),
  }
}

/**
 * The request's id, `X-Request-Timeout` (seconds after which the result is of no use) and `Idempotency-Key`.
 * @throws AppError `invalid_request` where a header is malformed.
 */
export function submissionOf(
  c: Context<AppEnv>,
): Pick<ToolContext, 'requestId' | 'deadlineMs' | 'idempotencyKey'> {
  const timeout = c.req.header('x-request-timeout')
  const key = c.req.header('idempotency-key')
  return {
    requestId: c.var.requestId,
    deadlineMs:
      timeout === undefined
        ? undefined
        : Math.max(1, secondsToMs('X-Request-Timeout', timeout, MAX_TIMEOUT_SECONDS)),
    idempotencyKey: parseInput(idempotencyHeader, { 'Idempotency-Key': key })['Idempotency-Key'],
  }
}

const idempotencyHeader = z.object({ 'Idempotency-Key': idempotencyKeySchema.optional() })

function secondsToMs(name: string, text: string, max: number): number {
  const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (!(seconds <= max))
    throw new AppError(
      'invalid_request',
      `${name} must be a number of seconds from 0 to ${max} (got ${JSON.stringify(text)}).`,
    )
  return Math.round(seconds * 1000)
}
