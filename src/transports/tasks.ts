/**
 * The Tasks extension of MCP 2026-07-28 (`io.modelcontextprotocol/tasks`, SEP-2663) over jobs. A client that declares
 * the extension gets a task instead of waiting. Its host polls, shows and cancels the task without the model.
 */
import {
  ProtocolError,
  ProtocolErrorCode,
  type Server,
  type ServerContext,
} from '@modelcontextprotocol/server'
import { z } from 'zod'
import type { Caller } from '../auth/caller.ts'
import { requireScope } from '../auth/scopes.ts'
import { toAppError } from '../errors.ts'
import { hasEnded, type Job, type Jobs } from '../jobs/job.ts'
import {
  type AnswerContext,
  type AnswerParts,
  imageAnswer,
  pictureResult,
  stateInWords,
} from '../tools/image/image-answer.ts'
import type { ToolResult } from '../tools/tool.ts'
import { METHOD_SCOPES } from './method-scopes.ts'

export const TASKS_EXTENSION = 'io.modelcontextprotocol/tasks'

/** How long a call waits before it becomes a task, in milliseconds. */
export const TASK_WAIT_MS = 1000

const POLL_INTERVAL_MS = 1000

export interface TaskParts extends AnswerParts {
  readonly jobs: Jobs
  /** How long a job is remembered after its end, in seconds. */
  readonly ttlSeconds: number
}

/** True when the capabilities that came with a request declare the extension. */
export function declaresTasks(capabilities: unknown): boolean {
  return declaration.safeParse(capabilities).success
}
const declaration = z.looseObject({ extensions: z.looseObject({ [TASKS_EXTENSION]: z.looseObject({}) }) })

/** Turns the answer of an unfinished call into a new task; undefined for any other answer. */
export async function asTask(result: ToolResult<Record<string, unknown>>, caller: Caller, parts: TaskParts) {
  const { success, data } = unfinished.safeParse(result.structured)
  if (!success) return undefined
  return { resultType: 'task', ...taskOf(await parts.jobs.get(data.job_id, caller), parts) }
}
const unfinished = imageAnswer.pick({ job_id: true }).extend({ state: z.enum(['queued', 'running']) })

/** Answers `tasks/get`, `tasks/cancel` and `tasks/update` for this caller's jobs. */
export function serveTasks(
  server: Server,
  caller: Caller,
  parts: TaskParts,
  contextOf: (context: ServerContext) => AnswerContext,
): void {
  const params = z.looseObject({ taskId: z.string().min(1).max(100) })
  const job = async (method: keyof typeof METHOD_SCOPES, find: () => Promise<Job>) => {
    try {
      requireScope(caller, METHOD_SCOPES[method])
      return await find()
    } catch (error) {
      throw new ProtocolError(ProtocolErrorCode.InvalidParams, toAppError(error).message)
    }
  }
  server.setRequestHandler('tasks/get', { params }, async ({ taskId }, context) =>
    detailed(await job('tasks/get', () => parts.jobs.get(taskId, caller)), parts, contextOf(context)),
  )
  server.setRequestHandler('tasks/cancel', { params }, async ({ taskId }) => {
    await job('tasks/cancel', () => parts.jobs.cancel(taskId, caller))
    return {}
  })
  server.setRequestHandler('tasks/update', { params }, async ({ taskId }) => {
    await job('tasks/update', () => parts.jobs.get(taskId, caller))
    throw new ProtocolError(
      ProtocolErrorCode.InvalidParams,
      'This task asks for no input; tasks/get tells its state.',
    )
  })
}

/** The fields that a new task and `tasks/get` share. */
function taskOf(job: Job, { ttlSeconds }: Pick<TaskParts, 'ttlSeconds'>) {
  const status = {
    queued: 'working',
    running: 'working',
    succeeded: 'completed',
    failed: 'failed',
    expired: 'failed',
    cancelled: 'cancelled',
  } as const
  const message = job.error?.message ?? (hasEnded(job) ? undefined : stateInWords(job))
  return {
    taskId: job.id,
    status: status[job.state],
    statusMessage: message,
    createdAt: new Date(job.createdAt).toISOString(),
    lastUpdatedAt: new Date(job.endedAt ?? Date.now()).toISOString(),
    ttlMs: job.deadlineAt - job.createdAt + ttlSeconds * 1000,
    pollIntervalMs: POLL_INTERVAL_MS,
  }
}

/** A task with its result or its error, once it has one. */
async function detailed(job: Job, parts: TaskParts, context: AnswerContext) {
  const task = taskOf(job, parts)
  if (task.status === 'failed')
    return {
      ...task,
      error: { code: ProtocolErrorCode.InternalError, message: job.error?.message ?? '', data: job.error },
    }
  if (task.status !== 'completed') return task
  const { content, structured } = await pictureResult(job, parts, context)
  return { ...task, result: { resultType: 'complete', content, structuredContent: structured } }
}
