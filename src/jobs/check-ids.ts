/** Ids from outside, checked before any backend sees them. */
import { quote } from '../errors.ts'
import { noSuchJob } from './endings.ts'
import type { Jobs } from './job.ts'

const ID = /^[A-Za-z0-9_-]{1,64}$/

/** The same jobs, for which an id of another form names none. */
export function checkIds(jobs: Jobs): Jobs {
  return {
    ...jobs,
    get: async (id, caller) => await jobs.get(check(id), caller),
    async *watch(id, caller, signal) {
      yield* jobs.watch(check(id), caller, signal)
    },
    cancel: async (id, caller) => await jobs.cancel(check(id), caller),
  }
}

/** @throws AppError `not_found`, as for an id of the right form: it tells nobody what ids look like. */
function check(id: string): string {
  if (ID.test(id)) return id
  throw noSuchJob(quote(id))
}
