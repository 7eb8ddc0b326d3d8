/**
 * What jobs take in Valkey, in bytes: for admission, for the check at the start, and for docs/scaling.md.
 * test/services/ended-jobs.test.ts measures it, and compares the page.
 */

const KIB = 2 ** 10
const MIB = 2 ** 20

/** A job that has ended, whatever its prompts; with an idempotency key where it has a picture. */
export const ENDED_JOB_BYTES = { withPicture: 2 * KIB, without: KIB }
/** A job that waits or runs: with a prompt of 200 characters, and with the longest prompts. */
export const WAITING_JOB_BYTES = { usual: 4 * KIB, longest: 28 * KIB }
/** No job is admitted while less is left: what was admitted needs it until its end. */
export const RESERVE_BYTES = 4 * MIB
/** For all jobs on the same server as pictures: 20,000 that have ended, the reserve, and 20 MiB that wait. */
export const JOBS_BYTES = 64 * MIB
