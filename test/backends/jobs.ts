/** What every job backend promises, as a suite to run against each of them. Nothing here looks inside of one. */
import { describe } from 'vitest'
import { admission, prediction, submitting } from './jobs/admission.ts'
import { cancelling, deadlines, draining, handles } from './jobs/ends.ts'
import { abandonment, adoption, leaving } from './jobs/leaving.ts'
import { joins, retries } from './jobs/once.ts'
import { fairness, withdrawal } from './jobs/order.ts'
import { runs } from './jobs/runs.ts'
import { strangers } from './jobs/strangers.ts'
import type { MakeJobs } from './jobs/suite.ts'

const GROUPS = [
  ...[submitting, admission, prediction, fairness, withdrawal, runs, retries, joins],
  ...[strangers, adoption, abandonment, leaving, cancelling, handles, deadlines, draining],
]

/** Runs the suite against the backend that `make` makes. */
export function jobsContract(name: string, make: MakeJobs): void {
  describe(name, () => {
    for (const group of GROUPS) group(make)
  })
}
