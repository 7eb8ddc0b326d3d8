import { isAnonymous } from '../../auth/caller.ts'
import type { ToolContext } from '../tool.ts'

/** What a call for a picture asked for without effect, as a part of its answer. Hosts send keys by habit, so none is refused. */
export function notesOn({ caller, idempotencyKey }: Pick<ToolContext, 'caller' | 'idempotencyKey'>): {
  notes?: string[]
} {
  if (idempotencyKey === undefined || !isAnonymous(caller)) return {}
  return {
    notes: [
      'The idempotency key had no effect: without authentication callers cannot be told apart, so a retry makes another picture.',
    ],
  }
}
